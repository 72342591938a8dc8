"""The autoencoder's parameters under PyTorch's names and shapes, the form in which contestants exchange them."""

from typing import Any

import numpy as np

GATES = "ifgo"
"""The order of the gates in PyTorch's matrices."""


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
        named[f"{lstm}.weight_ih_l0"] = np.concatenate([np.asarray(cell[f"i{gate}"]["kernel"]).T for gate in GATES])
        named[f"{lstm}.weight_hh_l0"] = np.concatenate([np.asarray(cell[f"h{gate}"]["kernel"]).T for gate in GATES])
        named[f"{lstm}.bias_ih_l0"] = np.concatenate([np.asarray(cell[f"h{gate}"]["bias"]) for gate in GATES])
    for linear in ("latent", "output"):
        named[f"{linear}.weight"] = np.asarray(tree[linear]["kernel"]).T
        named[f"{linear}.bias"] = np.asarray(tree[linear]["bias"])
    return named
