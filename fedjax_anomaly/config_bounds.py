"""What each setting of a run may be by itself."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedjax_anomaly.config import Config

_AT_LEAST: dict[str, float] = dict.fromkeys(
    (
        "num_seeds",
        "telemetry_services",
        "shards_per_client",
        "score_smoothing",
        "min_client_windows",
        "min_category_count",
        "hidden_size",
        "latent_size",
        "num_layers",
        "num_rounds",
        "local_epochs",
        "batch_size",
        "masks_per_window",
        "rounds_per_report",
    ),
    1,
)
_AT_LEAST |= dict.fromkeys(
    (
        "seed",
        "num_clients",
        "shift_strength",
        "window_length",
        "window_stride",
        "scoring_stride",
        "clients_per_round",
        "local_steps",
        "proximal_mu",
        "server_learning_rate",
        "server_momentum",
        "dp_epsilon",
        "dp_delta",
        "dp_noise_multiplier",
        "clip_quantile",
        "dp_preprocessing_epsilon",
        "host_devices",
        "num_processes",
    ),
    0,
)
_AT_LEAST |= dict.fromkeys(("client_batch_size", "member_batch_size", "process_id"), -1)
_POSITIVE = (
    "dirichlet_alpha",
    "encoding_clip",
    "deviation_floor",
    "learning_rate",
    "server_adaptivity",
    "clip_norm",
    "clip_learning_rate",
    "secagg_clip",
)


def check_bounds(config: "Config") -> None:
    """Checks each number.

    Args:
      config: the settings.

    Raises:
      ValueError: naming the setting, its value and the bound.
    """
    for name, least in _AT_LEAST.items():
        if not getattr(config, name) >= least:
            raise ValueError(f"{name}={getattr(config, name)} must be at least {least}.")
    for name in _POSITIVE:
        if not getattr(config, name) > 0.0:
            raise ValueError(f"{name}={getattr(config, name)} must be positive.")
    if not 0.0 <= config.input_masking < 1.0:
        raise ValueError(f"input_masking={config.input_masking} must lie in [0, 1).")
