"""What a run says of its privacy: every mechanism with its parameters, the guarantee in words, and what is outside."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_anomaly.config import Config
from fedjax_anomaly.experiment import example_shares
from fedjax_anomaly.experiment.build import Experiment
from fedjax_anomaly.experiment.central_privacy import client_mechanisms
from fedjax_anomaly.experiment.noise_trust import assumptions, statement_of_clients, trust_in_words
from fedjax_anomaly.experiment.preprocessing import Preprocessing, mechanisms
from fedjax_anomaly.experiment.privacy_plan import PrivacyPlan
from fedjax_anomaly.experiment.secure import server_sees
from fedjax_anomaly.privacy.accounting import ClientLevelRelease
from fedjax_anomaly.privacy.example_accounting import ExampleLevelRelease
from fedjax_anomaly.reporting.atomic import write_atomically
from fedjax_anomaly.reporting.warning_signs import noise_warning

_TRUST_OF_EXAMPLES = {
    "federated": "local: each client adds the noise to its own steps before anything leaves it, so that the server, "
    "the other clients and whoever gets the models see noisy sums only; nobody needs to be trusted with the rows",
    "local_only": "local: each client adds the noise to its own steps, so that whoever gets its model sees noisy sums "
    "only; the rows leave no client",
    "centralized": "central: whoever trains sees all clients' rows in the clear; the guarantee is against whoever gets "
    "the model",
}
_PREPROCESSING = (
    "Preprocessing counts: a training window is in the noisy sums of the encoding, in those of the clustering where "
    "there are several models, and in the training, all composed; a held-out window is in the noisy counts for the "
    "thresholds alone, and no record is in both."
)
_ASSUMES = (
    "the run's seed stays secret: it is in config.json, and whoever knows it can draw the same noise and subtract it",
    "the noise is drawn in float32 by a pseudo-random generator; attacks on its last bits are not excluded",
)


def statement(experiment: Experiment, rounds_done: int) -> dict[str, Any] | None:
    """The `privacy` part of `result.json`, and the content of `privacy.json`; None without differential privacy.

    Args:
      experiment: what was run.
      rounds_done: noise was added in so many rounds, and no more are accounted.
    """
    plan, config = experiment.privacy, experiment.config
    if plan is None:
        return None
    release = dataclasses.replace(plan.release, num_rounds=rounds_done)
    common = {
        "delta": config.dp_delta,
        "noise_multiplier": plan.noise_multiplier,
        "clip_norm": config.clip_norm,
        "noise_std": plan.noise_multiplier * config.clip_norm,
        "sampling": release.sampling,
        "accountant": release.accountant,
        "noise_to_clip_ratio": plan.noise_to_clip_ratio,
        "not_covered": not_covered(experiment),
        "assumes": [_ASSUMES[0], assumptions(config, otherwise=_ASSUMES[1])],
    }
    if isinstance(release, ClientLevelRelease):
        own = _of_clients(release, plan, config, experiment.num_clusters)
    elif isinstance(release, ExampleLevelRelease):
        own = _of_examples(release, plan, config)
    else:
        own = statement_of_clients(release, plan.noise_multiplier, config, _finite)
    if plan.preprocessing is not None:
        own |= _with_preprocessing(experiment, plan.preprocessing, own)
    return unit_and_trust(experiment) | common | own


def write_ledger(path: Path, privacy: dict[str, Any] | None) -> None:
    """Writes `privacy.json`; a run without differential privacy has none."""
    if privacy is not None:
        write_atomically(path, (json.dumps(privacy, indent=2, allow_nan=False) + "\n").encode())


def announcement(experiments: Sequence[Experiment]) -> list[str]:
    """The guarantee in words, before the first round; nothing without differential privacy.

    Args:
      experiments: one run, or all members of many.
    """
    first, config = experiments[0], experiments[0].config
    if first.privacy is None:
        return []
    plans = [e.privacy for e in experiments if e.privacy is not None]
    epsilons = [plan.epsilon(config.dp_delta) for plan in plans]
    about, release = unit_and_trust(first), first.privacy.release
    drowned = noise_warning(max(plan.noise_to_clip_ratio for plan in plans), config.dp_unit)
    return [
        f"differential privacy: unit {about['unit_in_words']}; epsilon {_span(epsilons)} at delta {config.dp_delta:g} "
        f"after {config.num_rounds} rounds, noise multiplier {_span([plan.noise_multiplier for plan in plans])}, "
        f"{release.sampling} sampling ({release.accountant})",
        f"trust: {about['trust']}",
        *([_PREPROCESSING] if first.privacy.preprocessing is not None else []),
        f"not covered: {'; '.join(not_covered(first))}",
        *([f"warning: {drowned}"] if drowned else []),
    ]


def unit_and_trust(experiment: Experiment) -> dict[str, str]:
    """What is protected, and who sees what in the clear."""
    config = experiment.config
    if config.dp_unit == "client":
        words = "one client with everything that it holds"
        trust = f"central: the server sees {server_sees(config)}, and adds the noise to the sum"
        if config.trust != "central":
            words, trust = f"{words}: that it takes part is public", trust_in_words(config)
    else:
        length = experiment.federation.window_length
        rows = "one training record" if length == 1 else f"one training window of {length} records, without overlap"
        words, trust = f"{rows}: what it contained, not that it was there", _TRUST_OF_EXAMPLES[config.method]
        if config.trust == "distributed":
            trust = example_shares.trust_in_words(server_sees(config))
    return {"unit": config.dp_unit, "unit_in_words": words, "trust": trust}


def not_covered(experiment: Experiment) -> list[str]:
    """What is learned from the data without noise."""
    config, lists = experiment.config, []
    if experiment.privacy is None or experiment.privacy.preprocessing is None:
        clustered = config.method == "federated" and config.num_clusters != "1"
        by = "losses in every round" if config.clustering == "ifca" else "summaries of data"
        lists += ["the sums and the counts of categories that the encoding is fitted on"]
        lists += [f"the {by} that clients are clustered by"] if clustered else []
        lists += ["the held-out scores that set the thresholds"]
    elif experiment.privacy.preprocessing.given_categories:
        lists += [
            "the categories with a bucket of their own, which were given: those that the members of one run share come "
            "from the noisy releases of all of them, and the epsilons of members add up"
        ]
    if config.dp_unit == "client" and config.trust == "local":
        return [*lists, "the losses in the log"]
    if config.dp_unit == "client":
        return [*lists, "the losses and the norms of updates in the log"]
    return [
        *lists,
        "the losses in the log, the measure of how clients differ, and the figures that show data",
        "how many windows each client has and which rows are labelled normal, which count as public",
        "what many windows say together of one machine, user or client: each window is protected, not all of them",
    ]


def _with_preprocessing(experiment: Experiment, plan: Preprocessing, trained: dict[str, Any]) -> dict[str, Any]:
    """The parts of a statement that change where preprocessing counts: the largest epsilon is over all records."""
    config, federation = experiment.config, experiment.federation
    cluster = np.broadcast_to(experiment.assignment, federation.num_clients)
    by_pld, by_rdp = plan.held_out_epsilon(config.dp_delta), plan.held_out_epsilon(config.dp_delta, "RDP")
    listed = mechanisms(config, plan, federation, cluster)
    return {
        "epsilon": None if trained["epsilon"] is None else max(trained["epsilon"], by_pld),
        "epsilon_rdp": None if trained["epsilon_rdp"] is None else max(trained["epsilon_rdp"], by_rdp),
        "epsilon_held_out": by_pld,
        "mechanisms": [*listed, *trained["mechanisms"]],
        "preprocessing": _PREPROCESSING,
    }


def _of_clients(release: ClientLevelRelease, plan: PrivacyPlan, config: Config, num_clusters: int) -> dict[str, Any]:
    epsilon, by_rdp = (
        release.epsilon(plan.noise_multiplier, config.dp_delta, accountant) for accountant in (None, "RDP")
    )
    mechanisms = client_mechanisms(config, release, plan.noise_multiplier, num_clusters)
    return {
        "epsilon": _finite(epsilon),
        "epsilon_rdp": _finite(by_rdp),
        "noise_std": mechanisms[0]["noise_std"],
        "mechanisms": mechanisms,
    }


def _of_examples(release: ExampleLevelRelease, plan: PrivacyPlan, config: Config) -> dict[str, Any]:
    by_pld, by_rdp = (
        release.client_epsilons(plan.noise_multiplier, config.dp_delta, accountant) for accountant in ("PLD", "RDP")
    )
    sizes = release.num_windows
    rates = [release.rate(size) for size in sizes]
    steps = [release.steps(size) for size in sizes]
    words = (
        f"Gaussian noise of standard deviation {plan.noise_multiplier * config.clip_norm:.3g} on the sum of the "
        f"windows' gradients, each clipped to norm {config.clip_norm:g}, in each of {_span(steps)} local steps of a "
        f"client; a step draws every window by itself with probability {_span(rates)}"
    )
    on = "sum of the gradients of a client's windows"
    if config.trust == "distributed":
        on = "secure sum of the gradients of the windows of all clients that share a model"
        words += (
            f"; the noise is that on the secure sum of all clients' gradients, to which each adds "
            f"{plan.noise_share:.3g} of this deviation"
        )
    mechanism = {"mechanism": "gaussian", "on": on, "in_words": words}
    return {
        "epsilon": _finite(max(by_pld)),
        "epsilon_rdp": _finite(max(by_rdp)),
        "mechanisms": [mechanism | {"sums": max(steps), "sampling_rate": max(rates)}],
        "per_client": [
            {"windows": n, "sampling_rate": q, "steps": s, "epsilon": _finite(pld), "epsilon_rdp": _finite(rdp)}
            for n, q, s, pld, rdp in zip(sizes, rates, steps, by_pld, by_rdp, strict=True)
        ],
    }


def _span(values: Sequence[float]) -> str:
    low, high = (f"{value:.3g}" if isinstance(value, float) else str(value) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _finite(epsilon: float) -> float | None:
    return epsilon if math.isfinite(epsilon) else None
