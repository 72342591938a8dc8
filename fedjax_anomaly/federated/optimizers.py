"""The optimizers that a configuration can name; a library user passes any optax optimizer."""

import jax
import optax


def client_optimizer(name: str, learning_rate: float | jax.Array) -> optax.GradientTransformation:
    """The optimizer of local training: `sgd`, `momentum` (0.9), `adam` or `adamw`; the learning rate may be traced."""
    optimizers = {
        "sgd": lambda: optax.sgd(learning_rate),
        "momentum": lambda: optax.sgd(learning_rate, momentum=0.9),
        "adam": lambda: optax.adam(learning_rate),
        "adamw": lambda: optax.adamw(learning_rate),
    }
    return _chosen(name, optimizers)


def server_optimizer(
    name: str,
    learning_rate: float = 0.0,
    momentum: float = 0.9,
    *,
    adaptivity: float = 1e-3,
    decay_rounds: int = 0,
) -> optax.GradientTransformation:
    """The optimizer of the server, on the negative mean update.

    Args:
      name: `fedavg` (SGD), `fedavgm` (SGD with momentum; Hsu et al. 2019), `fedadam` or `fedyogi` (Reddi et al. 2021,
        algorithm 2, with their beta_2 = 0.99).
      learning_rate: 0 takes 1 for `fedavg` and `fedavgm`, 0.01 for the adaptive ones.
      momentum: of `fedavgm`, and beta_1 of the adaptive ones.
      adaptivity: tau of the adaptive ones, beside the root of the second moment; well below the elements of an update
        it makes their size irrelevant.
      decay_rounds: the learning rate falls to 0 over so many rounds along half a cosine; 0 keeps it.
    """
    first = learning_rate or (1.0 if name in ("fedavg", "fedavgm") else 0.01)
    rate = optax.cosine_decay_schedule(first, decay_rounds) if decay_rounds else first
    optimizers = {
        "fedavg": lambda: optax.sgd(rate),
        "fedavgm": lambda: optax.sgd(rate, momentum=momentum),
        "fedadam": lambda: optax.adam(rate, b1=momentum, b2=0.99, eps=adaptivity),
        "fedyogi": lambda: optax.yogi(rate, b1=momentum, b2=0.99, eps=adaptivity),
    }
    return _chosen(name, optimizers)


def _chosen(name: str, optimizers: dict) -> optax.GradientTransformation:
    if name not in optimizers:
        raise ValueError(f"optimizer {name!r} is unknown; the choices are {', '.join(optimizers)}.")
    return optimizers[name]()
