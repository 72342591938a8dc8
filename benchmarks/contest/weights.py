"""The autoencoder's parameters under PyTorch's names and shapes, the form in which contestants exchange them."""

from typing import Any

import numpy as np


def to_torch_names(params: Any) -> dict[str, np.ndarray]:
    """The parameters of `models.lstm_autoencoder` as PyTorch's `state_dict` names them, without the second biases.

    Args:
      params: of one model, one layer each in the encoder and in the decoder.

    Returns:
      An LSTM's weights are [4H, inputs] and [4H, H], gates in the order input, forget, cell, output; a linear layer's
      are [outputs, inputs].
    """
    tree = params["params"]
    named = {}
    for lstm in ("encoder", "decoder"):
        cell = tree[f"{lstm}_0"]
        named[f"{lstm}.weight_ih_l0"] = np.asarray(cell["input_kernel"]).T
        named[f"{lstm}.weight_hh_l0"] = np.asarray(cell["recurrent_kernel"]).T
        named[f"{lstm}.bias_ih_l0"] = np.asarray(cell["bias"])
    for linear in ("latent", "output"):
        named[f"{linear}.weight"] = np.asarray(tree[linear]["kernel"]).T
        named[f"{linear}.bias"] = np.asarray(tree[linear]["bias"])
    return named
