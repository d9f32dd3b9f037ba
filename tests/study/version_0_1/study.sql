BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'old');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MINIMIZE',1,0);
INSERT INTO "study_directions" VALUES(2,'MINIMIZE',1,1);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_user_attributes" VALUES(1,1,'data','{"name": "corpus.txt", "source": "corpus.txt", "sha256": "b67d4a6c25ae43db95a1113fb854eb30de44f6dcc4c735e35f0c321d668cdf57", "characters": 2700, "vocabulary": 28, "splits": {"train": [0, 2160], "val": [2160, 2430], "test": [2430, 2700]}, "unseen": {"val": 0, "test": 0}, "floors": {"val": {"1-gram": {"loss": 3.0475539274695627}, "2-gram": {"loss": 0.6521721204028202}, "3-gram": {"loss": 0.037236310250674025}, "4-gram": {"loss": 0.030935340439057966}, "5-gram": {"loss": 0.030809156721166485}}, "test": {"1-gram": {"loss": 3.0475539274695627}, "2-gram": {"loss": 0.6521721204028202}, "3-gram": {"loss": 0.037236310250674025}, "4-gram": {"loss": 0.030935340439057966}, "5-gram": {"loss": 0.030809156721166485}}}}');
INSERT INTO "study_user_attributes" VALUES(2,1,'environment','{"cpu": "AMD EPYC", "logical_cores": 2, "memory_gib": 23.5, "gpus": [], "os": "Linux 6.18.44-fc-v782", "python": "3.11.7", "versions": {"nas": "0.1.0", "torch": "2.13.0+cpu", "ray": "2.60.0", "optuna": "5.0.0"}, "threads": 2, "command": "nas search old.toml --executor serial --no-progress", "seed": 0}');
INSERT INTO "study_user_attributes" VALUES(3,1,'created','1796020492.1225061');
INSERT INTO "study_user_attributes" VALUES(4,1,'budget','4');
INSERT INTO "study_user_attributes" VALUES(5,1,'settings','{"name": "old", "family": "decoder", "task": {"kind": "language_modelling", "corpus": "corpus.txt", "context": 16, "split": "80/10/10"}, "space": {"depth": [1, 2], "hidden": [16, 32], "mixed": false, "attention": [{"kind": "softmax", "heads": [1, 2], "kv_heads": [1, "all"]}, {"kind": "window", "heads": [1, 2], "window": [4, 8]}], "feed_forward": {"kind": ["swiglu"], "ratio": [4.0], "bias": [false]}, "norm": ["rms"], "residual": ["sequential"], "tied": [true], "repeat": [1], "encoder_attention": [], "cross": []}, "train": {"steps": 8, "batch": 4, "rungs": [0.5, 1.0], "optimiser": "muon", "learning_rate": [0.003, 0.01], "warmup": 0.05, "clip": 1.0, "weight_decay": 0.0, "evaluation_tokens": 512}, "measure": {"batch": 1, "prompt": 8, "threads": 1, "repeats": 3}, "objectives": [{"metric": "val_loss"}, {"metric": "flops_per_token"}], "constraints": [{"metric": "weights_mib", "max": 16.0}], "search": {"trials": 4, "sampler": "auto", "seed": 0, "stopping": true, "skip": true}, "resources": {"device": "cpu", "cpus_per_trial": 1.0, "gpus_per_trial": 0.0}, "baselines": [{"hidden": 32, "depth": 1, "attention": {"kind": "softmax", "heads": 2}, "feed_forward": {}, "norm": "rms", "residual": "sequential", "tied": true, "repeat": 1}]}');
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'hidden',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(2,1,'depth',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2]}}');
INSERT INTO "trial_params" VALUES(3,1,'attention',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["softmax", "window"]}}');
INSERT INTO "trial_params" VALUES(4,1,'softmax.heads',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2]}}');
INSERT INTO "trial_params" VALUES(5,1,'softmax.kv_heads@heads=2',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2]}}');
INSERT INTO "trial_params" VALUES(6,1,'learning_rate',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.003, 0.01]}}');
INSERT INTO "trial_params" VALUES(7,2,'hidden',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(8,2,'depth',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2]}}');
INSERT INTO "trial_params" VALUES(9,2,'attention',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["softmax", "window"]}}');
INSERT INTO "trial_params" VALUES(10,2,'window.heads',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2]}}');
INSERT INTO "trial_params" VALUES(11,2,'window.window',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(12,2,'learning_rate',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.003, 0.01]}}');
INSERT INTO "trial_params" VALUES(13,3,'hidden',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(14,3,'depth',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2]}}');
INSERT INTO "trial_params" VALUES(15,3,'attention',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["softmax", "window"]}}');
INSERT INTO "trial_params" VALUES(16,3,'softmax.heads',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2]}}');
INSERT INTO "trial_params" VALUES(17,3,'softmax.kv_heads@heads=2',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2]}}');
INSERT INTO "trial_params" VALUES(18,3,'learning_rate',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.003, 0.01]}}');
INSERT INTO "trial_params" VALUES(19,4,'hidden',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(20,4,'depth',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2]}}');
INSERT INTO "trial_params" VALUES(21,4,'attention',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["softmax", "window"]}}');
INSERT INTO "trial_params" VALUES(22,4,'window.heads',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2]}}');
INSERT INTO "trial_params" VALUES(23,4,'window.window',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(24,4,'learning_rate',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.003, 0.01]}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_system_attributes" VALUES(1,1,'constraints:weights_mib','-0.996673583984375');
INSERT INTO "trial_system_attributes" VALUES(2,2,'constraints:weights_mib','-0.999114990234375');
INSERT INTO "trial_system_attributes" VALUES(3,3,'constraints:weights_mib','-0.9991302490234375');
INSERT INTO "trial_system_attributes" VALUES(4,4,'constraints:weights_mib','-0.9982147216796875');
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'architecture','{"hidden": 32, "blocks": [{"attention": {"kind": "softmax", "heads": 2}}]}');
INSERT INTO "trial_user_attributes" VALUES(2,1,'architecture_id','"818cd8471917"');
INSERT INTO "trial_user_attributes" VALUES(3,1,'attempt','1');
INSERT INTO "trial_user_attributes" VALUES(4,1,'proposed','1796020495.665552');
INSERT INTO "trial_user_attributes" VALUES(5,1,'learning_rate','0.003');
INSERT INTO "trial_user_attributes" VALUES(6,1,'baseline','true');
INSERT INTO "trial_user_attributes" VALUES(7,1,'owner','"host:1"');
INSERT INTO "trial_user_attributes" VALUES(8,1,'slot','0');
INSERT INTO "trial_user_attributes" VALUES(9,1,'metrics','{"prefill_ms": 0.478146, "prefill_ms_p10": 0.46823159999999997, "prefill_ms_p90": 3.7231676000000005, "prefill_ms_p95": 4.1287953, "prefill_ms_count": 3.0, "peak_inference_mib": 0.0709228515625, "weights_mib": 0.05322265625, "params": 13440.0, "flops_per_token": 28928.0, "contended": 1.0, "decode_ms_per_token": 0.4545215, "decode_ms_per_token_p10": 0.4368016, "decode_ms_per_token_p90": 0.4712286, "decode_ms_per_token_p95": 3.9133717999999913, "decode_ms_per_token_count": 24.0, "decode_state_kib": 4.0, "peak_training_mib": 0.3839263916015625, "val_loss": 2.9762396812438965, "val_accuracy": 0.00390625, "bits_per_char": 4.293806228627519, "perplexity": 19.613923197096053, "train_seconds": 0.04424221100009618, "tokens_per_second": 11572.658518329632}');
INSERT INTO "trial_user_attributes" VALUES(10,1,'rungs','[{"step": 4, "seconds": 0.020104223999965143, "metrics": {"val_loss": 3.088732957839966, "val_accuracy": 0.0, "bits_per_char": 4.4560997209060185, "perplexity": 21.949249724920247, "train_seconds": 0.020104223999965143, "tokens_per_second": 12733.642442525703}}, {"step": 8, "seconds": 0.04424221100009618, "metrics": {"val_loss": 2.9762396812438965, "val_accuracy": 0.00390625, "bits_per_char": 4.293806228627519, "perplexity": 19.613923197096053, "train_seconds": 0.04424221100009618, "tokens_per_second": 11572.658518329632}}]');
INSERT INTO "trial_user_attributes" VALUES(11,2,'architecture','{"hidden": 16, "blocks": [{"attention": {"kind": "window", "heads": 2, "window": 4}}]}');
INSERT INTO "trial_user_attributes" VALUES(12,2,'architecture_id','"ff8f4dd58e52"');
INSERT INTO "trial_user_attributes" VALUES(13,2,'attempt','1');
INSERT INTO "trial_user_attributes" VALUES(14,2,'proposed','1796020496.524089');
INSERT INTO "trial_user_attributes" VALUES(15,2,'learning_rate','0.01');
INSERT INTO "trial_user_attributes" VALUES(16,2,'owner','"host:1"');
INSERT INTO "trial_user_attributes" VALUES(17,2,'slot','0');
INSERT INTO "trial_user_attributes" VALUES(18,2,'redraws','0');
INSERT INTO "trial_user_attributes" VALUES(19,2,'metrics','{"prefill_ms": 0.672079, "prefill_ms_p10": 0.6643846, "prefill_ms_p90": 4.356643, "prefill_ms_p95": 4.817213499999999, "prefill_ms_count": 3.0, "peak_inference_mib": 0.0211181640625, "weights_mib": 0.01416015625, "params": 3392.0, "flops_per_token": 7808.0, "contended": 1.0, "decode_ms_per_token": 0.45480149999999997, "decode_ms_per_token_p10": 0.4354746, "decode_ms_per_token_p90": 0.6876598999999998, "decode_ms_per_token_p95": 3.9401983999999923, "decode_ms_per_token_count": 24.0, "decode_state_kib": 0.5, "peak_training_mib": 0.16933441162109375, "val_loss": 2.672185182571411, "val_accuracy": 0.1328125, "bits_per_char": 3.8551483112327443, "perplexity": 14.471557662531826, "train_seconds": 0.04063789299993914, "tokens_per_second": 12599.078402041336}');
INSERT INTO "trial_user_attributes" VALUES(20,2,'rungs','[{"step": 4, "seconds": 0.0215469759999678, "metrics": {"val_loss": 2.8141112327575684, "val_accuracy": 0.11328125, "bits_per_char": 4.059904320009271, "perplexity": 16.678346023602778, "train_seconds": 0.0215469759999678, "tokens_per_second": 11881.017549765804}}, {"step": 8, "seconds": 0.04063789299993914, "metrics": {"val_loss": 2.672185182571411, "val_accuracy": 0.1328125, "bits_per_char": 3.8551483112327443, "perplexity": 14.471557662531826, "train_seconds": 0.04063789299993914, "tokens_per_second": 12599.078402041336}}]');
INSERT INTO "trial_user_attributes" VALUES(21,3,'architecture','{"hidden": 16, "blocks": [{"attention": {"kind": "softmax", "heads": 2}}]}');
INSERT INTO "trial_user_attributes" VALUES(22,3,'architecture_id','"0d4f81c3d9e4"');
INSERT INTO "trial_user_attributes" VALUES(23,3,'attempt','1');
INSERT INTO "trial_user_attributes" VALUES(24,3,'proposed','1796020497.1609018');
INSERT INTO "trial_user_attributes" VALUES(25,3,'learning_rate','0.003');
INSERT INTO "trial_user_attributes" VALUES(26,3,'owner','"host:1"');
INSERT INTO "trial_user_attributes" VALUES(27,3,'slot','0');
INSERT INTO "trial_user_attributes" VALUES(28,3,'redraws','0');
INSERT INTO "trial_user_attributes" VALUES(29,3,'metrics','{"prefill_ms": 0.479898, "prefill_ms_p10": 0.47827959999999997, "prefill_ms_p90": 0.4805716, "prefill_ms_p95": 0.4806558, "prefill_ms_count": 3.0, "peak_inference_mib": 0.0223388671875, "weights_mib": 0.013916015625, "params": 3392.0, "flops_per_token": 7808.0, "contended": 1.0, "decode_ms_per_token": 0.4510495, "decode_ms_per_token_p10": 0.4346576, "decode_ms_per_token_p90": 6.102672599999995, "decode_ms_per_token_p95": 8.5218296, "decode_ms_per_token_count": 24.0, "decode_state_kib": 2.0, "peak_training_mib": 0.16811370849609375, "val_loss": 3.2126305103302, "val_accuracy": 0.015625, "bits_per_char": 4.63484610546196, "perplexity": 24.844353672587193, "train_seconds": 0.03756990300007601, "tokens_per_second": 13627.929781957759}');
INSERT INTO "trial_user_attributes" VALUES(30,3,'rungs','[{"step": 4, "seconds": 0.018846947000156433, "metrics": {"val_loss": 3.282827615737915, "val_accuracy": 0.01171875, "bits_per_char": 4.7361191213184295, "perplexity": 26.65102511532501, "train_seconds": 0.018846947000156433, "tokens_per_second": 13583.10181473292}}, {"step": 8, "seconds": 0.03756990300007601, "metrics": {"val_loss": 3.2126305103302, "val_accuracy": 0.015625, "bits_per_char": 4.63484610546196, "perplexity": 24.844353672587193, "train_seconds": 0.03756990300007601, "tokens_per_second": 13627.929781957759}}]');
INSERT INTO "trial_user_attributes" VALUES(31,4,'architecture','{"hidden": 16, "blocks": [{"attention": {"kind": "window", "heads": 1, "window": 8}}, {"attention": {"kind": "window", "heads": 1, "window": 8}}]}');
INSERT INTO "trial_user_attributes" VALUES(32,4,'architecture_id','"44aff54c2548"');
INSERT INTO "trial_user_attributes" VALUES(33,4,'attempt','1');
INSERT INTO "trial_user_attributes" VALUES(34,4,'proposed','1796020497.756104');
INSERT INTO "trial_user_attributes" VALUES(35,4,'learning_rate','0.003');
INSERT INTO "trial_user_attributes" VALUES(36,4,'owner','"host:1"');
INSERT INTO "trial_user_attributes" VALUES(37,4,'slot','0');
INSERT INTO "trial_user_attributes" VALUES(38,4,'redraws','0');
INSERT INTO "trial_user_attributes" VALUES(39,4,'metrics','{"prefill_ms": 1.189188, "prefill_ms_p10": 1.1820624, "prefill_ms_p90": 4.4402128, "prefill_ms_p95": 4.8465909, "prefill_ms_count": 3.0, "peak_inference_mib": 0.0369873046875, "weights_mib": 0.028564453125, "params": 6336.0, "flops_per_token": 14720.0, "contended": 1.0, "decode_ms_per_token": 0.738248, "decode_ms_per_token_p10": 0.7217476, "decode_ms_per_token_p90": 0.7629273, "decode_ms_per_token_p95": 4.196781549999991, "decode_ms_per_token_count": 24.0, "decode_state_kib": 2.0, "peak_training_mib": 0.28578948974609375, "val_loss": 3.0565531253814697, "val_accuracy": 0.0, "bits_per_char": 4.409674036201508, "perplexity": 21.254170296890003, "train_seconds": 0.06113311599995086, "tokens_per_second": 8375.166088383448}');
INSERT INTO "trial_user_attributes" VALUES(40,4,'rungs','[{"step": 4, "seconds": 0.027468355000110023, "metrics": {"val_loss": 3.141012668609619, "val_accuracy": 0.0, "bits_per_char": 4.531523400372507, "perplexity": 23.127275269932007, "train_seconds": 0.027468355000110023, "tokens_per_second": 9319.815474897372}}, {"step": 8, "seconds": 0.06113311599995086, "metrics": {"val_loss": 3.0565531253814697, "val_accuracy": 0.0, "bits_per_char": 4.409674036201508, "perplexity": 21.254170296890003, "train_seconds": 0.06113311599995086, "tokens_per_second": 8375.166088383448}}]');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,2.97623968124389648437e+00,'FINITE');
INSERT INTO "trial_values" VALUES(2,1,1,28928.0,'FINITE');
INSERT INTO "trial_values" VALUES(3,2,0,2.67218518257141113281e+00,'FINITE');
INSERT INTO "trial_values" VALUES(4,2,1,7808.0,'FINITE');
INSERT INTO "trial_values" VALUES(5,3,0,3.2126305103302,'FINITE');
INSERT INTO "trial_values" VALUES(6,3,1,7808.0,'FINITE');
INSERT INTO "trial_values" VALUES(7,4,0,3.05655312538146972656e+00,'FINITE');
INSERT INTO "trial_values" VALUES(8,4,1,14720.0,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-30 06:34:55.701323','2026-11-30 06:34:56.442064');
INSERT INTO "trials" VALUES(2,1,1,'COMPLETE','2026-11-30 06:34:56.524102','2026-11-30 06:34:57.104101');
INSERT INTO "trials" VALUES(3,2,1,'COMPLETE','2026-11-30 06:34:57.160914','2026-11-30 06:34:57.710568');
INSERT INTO "trials" VALUES(4,3,1,'COMPLETE','2026-11-30 06:34:57.756116','2026-11-30 06:34:58.550323');
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
COMMIT;
