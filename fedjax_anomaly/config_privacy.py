"""Which settings of privacy go together: what has no effect, or no valid accounting, is refused with the reason."""

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from fedjax_anomaly.config import Config

TRUST_BY_UNIT: dict[str, Literal["auto", "central", "local"]] = {
    "none": "auto",
    "client": "central",
    "example": "local",
}
"""Who adds the noise with `dp_trust=auto`."""


def check_privacy(config: "Config") -> None:
    """Checks the settings of differential privacy and of secure aggregation.

    Args:
      config: the settings.

    Raises:
      ValueError: naming the setting, its value and the way out.
    """
    _check_noise(config)
    _check_central_privacy(config)
    _check_preprocessing(config)


def _check_noise(config: "Config") -> None:
    noise = {name: getattr(config, name) for name in ("dp_epsilon", "dp_noise_multiplier") if getattr(config, name)}
    if config.dp_unit == "none" and noise:
        raise ValueError(
            f"{_flag_text(noise)} has no effect with dp_unit=none; give --dp_unit=client or --dp_unit=example, or "
            "leave it out."
        )
    if not config.dp_delta < 1.0:
        raise ValueError(f"dp_delta={config.dp_delta} must lie in (0, 1).")
    if config.dp_unit != "none" and len(noise) != 1:
        raise ValueError(
            f"dp_unit={config.dp_unit} needs exactly one of dp_epsilon and dp_noise_multiplier, but got "
            f"{_flag_text(noise) or 'neither'}."
        )
    if not 0.0 <= config.dp_sampling_rate <= 1.0:
        raise ValueError(f"dp_sampling_rate={config.dp_sampling_rate} must lie in [0, 1].")
    for name in ("dp_sampling_rate", "local_steps"):
        if getattr(config, name) and config.dp_unit != "example":
            raise ValueError(
                f"{name}={getattr(config, name)} has no effect with dp_unit={config.dp_unit}; leave it out, or give "
                "--dp_unit=example."
            )
    for name, replaced in {"dp_sampling_rate": "batch_size", "local_steps": "local_epochs"}.items():
        if getattr(config, name) and config.is_changed(replaced):
            raise ValueError(
                f"{replaced}={getattr(config, replaced)} has no effect with {name}={getattr(config, name)}; leave "
                "one of them out."
            )
    if config.masks_per_window > 1 and (config.dp_unit != "example" or not config.input_masking):
        raise ValueError(
            f"masks_per_window={config.masks_per_window} has no effect with dp_unit={config.dp_unit} and input_masking="
            f"{config.input_masking}; leave it out, or give --dp_unit=example and --input_masking."
        )
    if config.dp_unit == "example" and config.clustering == "ifca":
        raise ValueError(
            "clustering=ifca looks at every client's windows in every round without noise, which no epsilon of "
            "dp_unit=example would cover; give --clustering=similarity."
        )
    if config.trust != TRUST_BY_UNIT[config.dp_unit]:
        _check_trust(config)
    bounded = config.dp_unit == "client" or config.dp_trust == "distributed"
    if config.is_changed("secagg_clip") and (config.secure_aggregation == "none" or bounded):
        way_out = "give --secure_aggregation" if config.secure_aggregation == "none" else "clip_norm is the bound"
        raise ValueError(
            f"secagg_clip={config.secagg_clip} has no effect with secure_aggregation={config.secure_aggregation} and "
            f"dp_unit={config.dp_unit}; leave it out: {way_out}."
        )


def _check_central_privacy(config: "Config") -> None:
    """Settings of the noise that the server adds to the clients' updates."""
    if not config.clip_quantile < 1.0:
        raise ValueError(f"clip_quantile={config.clip_quantile} must lie in (0, 1), or be 0 for a fixed clip_norm.")
    for name in ("clip_quantile", "dp_mechanism"):
        if config.is_changed(name) and config.dp_unit != "client":
            raise ValueError(
                f"{name}={getattr(config, name)} is for the sum of the clients' updates and has no effect with "
                f"dp_unit={config.dp_unit}; leave it out, or give --dp_unit=client."
            )
    if config.is_changed("clip_learning_rate") and not config.clip_quantile:
        raise ValueError(
            f"clip_learning_rate={config.clip_learning_rate} has no effect with a fixed clip_norm; leave it out, or "
            "give --clip_quantile."
        )
    if config.dp_mechanism == "gaussian":
        return
    if config.clip_quantile:
        raise ValueError(
            "dp_mechanism=correlated cancels noise over rounds only while it stays of one size, but "
            f"clip_quantile={config.clip_quantile} changes it in every round; give one of the two."
        )
    if config.clients_per_round and config.client_sampling != "cyclic":
        raise ValueError(
            f"dp_mechanism=correlated has no valid accounting with client_sampling={config.client_sampling}: a "
            "client may be drawn in any rounds, so that its parts add up; give --client_sampling=cyclic, or "
            "--dp_mechanism=gaussian."
        )


def _check_trust(config: "Config") -> None:
    given = f"dp_trust={config.dp_trust}"
    if config.dp_unit == "none" or (config.dp_unit, config.dp_trust) == ("example", "central"):
        raise ValueError(
            f"{given} has no effect with dp_unit={config.dp_unit}, under which the server adds no noise; leave it "
            "out, or give --dp_unit=client."
        )
    if (config.secure_aggregation == "none") == (config.dp_trust == "distributed"):
        reason, way_out = {
            "distributed": ("puts a share of the noise into every update, which only a secure sum hides", "secagg"),
            "local": ("leaves a secure sum nothing to hide, at more noise than --dp_trust=distributed", "none"),
        }[config.dp_trust]
        raise ValueError(f"{given} {reason}; give --secure_aggregation={way_out}.")
    at_the_server = {"dp_mechanism": "correlated", "clip_quantile": config.clip_quantile, "client_sampling": "cyclic"}
    for name, value in at_the_server.items():
        if config.is_changed(name) and getattr(config, name) == value:
            raise ValueError(
                f"{name}={value} is accounted for noise that the server adds, not for {given}; leave it out, or "
                "give --dp_trust=central."
            )
    if config.dp_unit == "example":
        _check_shares_of_steps(config)
    if config.clustering == "ifca":
        raise ValueError(
            f"clustering=ifca shows the server in every round which model fits a client best, without noise, which "
            f"no epsilon of {given} would cover; give --clustering=similarity."
        )


def _check_shares_of_steps(config: "Config") -> None:
    """What `dp_unit=example` with `dp_trust=distributed` is accounted for: sums of single steps of all clients."""
    wanted = {"method": "federated", "local_steps": 1, "client_optimizer": "sgd", "clients_per_round": 0}
    for name, value in wanted.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"{name}={getattr(config, name)} with dp_trust=distributed and dp_unit=example has no valid "
                "accounting: what the clients' shares of the noise protect is the sum of one gradient of each, all "
                f"of them in every round; give --{name}={value}, or leave --dp_trust out."
            )
    if not config.dp_sampling_rate or config.sweep:
        raise ValueError(
            f"dp_trust=distributed with dp_unit=example needs one rate of sampling and one step size for all, but "
            f"dp_sampling_rate={config.dp_sampling_rate} and sweep={config.sweep!r}; give --dp_sampling_rate, and no "
            "--sweep."
        )


def _check_preprocessing(config: "Config") -> None:
    epsilon = config.dp_preprocessing_epsilon
    if config.dp_preprocessing == "none":
        if epsilon:
            raise ValueError(
                f"dp_preprocessing_epsilon={epsilon} has no effect with dp_preprocessing=none; leave it out, or "
                "give --dp_preprocessing=private."
            )
        return
    if config.dp_unit != "example":
        raise ValueError(
            f"dp_preprocessing=private bounds what one window adds to the sums of its client, which says nothing "
            f"for dp_unit={config.dp_unit}, where a client holds any number of them; give --dp_unit=example, or "
            "leave it out."
        )
    if config.threshold != "quantile" or config.score == "pvalue":
        raise ValueError(
            f"dp_preprocessing=private has noisy counts for threshold=quantile and score=mean, but threshold="
            f"{config.threshold} and score={config.score} need every held-out score as it is; leave these out."
        )
    if not epsilon and not config.dp_epsilon:
        raise ValueError(
            f"dp_preprocessing=private with dp_noise_multiplier={config.dp_noise_multiplier} has no epsilon to "
            "take a part of; give --dp_preprocessing_epsilon."
        )
    if config.dp_epsilon and epsilon > 0.5 * config.dp_epsilon:
        raise ValueError(
            f"dp_preprocessing_epsilon={epsilon} must be at most half of dp_epsilon={config.dp_epsilon}, so that the "
            "training gets its part."
        )


def _flag_text(values: dict[str, Any]) -> str:
    return " and ".join(f"{name}={value}" for name, value in values.items())
