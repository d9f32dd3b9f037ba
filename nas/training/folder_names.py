"""The files of a trained model's folder. No torch here."""

MODEL_FILES = WEIGHTS, ARCHITECTURE, VOCABULARY, METRICS = (
    "model.safetensors",
    "architecture.json",
    "vocabulary.json",
    "metrics.json",
)
