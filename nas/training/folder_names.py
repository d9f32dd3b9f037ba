"""The files of a trained model's folder. No torch here."""

WEIGHTS, ARCHITECTURE, VOCABULARY, METRICS = (
    "model.safetensors",
    "architecture.json",
    "vocabulary.json",
    "metrics.json",
)
