"""Trains a perceptron of scikit-learn on its 8×8 digits, pass by pass, and tells its errors and its latency."""

import pickle
import time
from collections.abc import Iterator
from functools import cache

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from nas.body import Finished, Job, Measured, Reached, Said
from nas.measurement import Measurement

READINGS = 50


@cache
def digits():
    """Training images, test images, and their labels: loaded once a worker."""
    images, labels = load_digits(return_X_y=True)
    return train_test_split(images / 16, labels, test_size=0.25, random_state=0, stratify=labels)


def train(job: Job) -> Iterator[Said]:
    """The body of one trial."""
    train_images, test_images, train_labels, test_labels = digits()
    saved = job.folder / "model.pickle"
    if saved.exists():
        epoch, model = pickle.loads(saved.read_bytes())
    else:
        epoch, model = 0, perceptron(job)
        model.partial_fit(
            train_images[:64], train_labels[:64], classes=np.unique(train_labels)
        )  # allocates the weights
    if not job.measured:
        with job.measuring():
            metrics = latency(model, test_images)
        yield Measured(metrics)
    while epoch < job.steps:
        if job.should_stop():
            return
        model.partial_fit(train_images, train_labels)
        epoch += 1
        if epoch in job.rungs:
            partly = saved.with_suffix(".part")
            partly.write_bytes(pickle.dumps((epoch, model)))
            partly.replace(saved)
            yield Reached(epoch, {"error": 1 - model.score(test_images, test_labels)})
    yield Finished({"error": 1 - model.score(test_images, test_labels)})


def perceptron(job: Job) -> MLPClassifier:
    """What the parameters describe, untrained."""
    chosen = job.parameters
    return MLPClassifier(
        hidden_layer_sizes=(chosen["width"],) * chosen["layers"],
        activation=chosen["activation"],
        alpha=chosen["alpha"],
        learning_rate_init=chosen["learning_rate"],
        random_state=job.seed,
    )


def latency(model: MLPClassifier, images: np.ndarray) -> dict[str, float]:
    """Milliseconds for all images at once: the median and its spread."""
    readings = []
    for _ in range(READINGS):
        start = time.perf_counter()
        model.predict(images)
        readings.append(1000 * (time.perf_counter() - start))
    return Measurement.of(readings).metrics("latency_ms")
