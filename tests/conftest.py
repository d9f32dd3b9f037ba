"""Shapes and types of the attention and model code are checked at every call while the tests run."""

from jaxtyping import install_import_hook

install_import_hook(["nas.attention", "nas.models"], "beartype.beartype")
