"""Names the files in a trained model's folder. It needs no torch."""

MODEL_FILES = WEIGHTS, ARCHITECTURE, VOCABULARY, METRICS = (
    "model.safetensors",
    "architecture.json",
    "vocabulary.json",
    "metrics.json",
)
