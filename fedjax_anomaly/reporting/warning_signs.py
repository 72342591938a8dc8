"""What a reader must know before believing a result."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

_LATE = 0.9
"""The share of the rounds after which reaching the final loss counts as still learning."""


def noise_warning(noise_to_clip_ratio: float, unit: str) -> str | None:
    """Says when the noise of differential privacy is larger than what it is added to; None where it is not.

    Args:
      noise_to_clip_ratio: of a round.
      unit: `client` or `example`.
    """
    if noise_to_clip_ratio <= 1.0:
        return None
    what, takes = {
        "client": ("a mean update", "many more clients per round"),
        "example": ("a round's mean gradient", "larger batches, fewer rounds, a smaller model"),
    }[unit]
    return (
        f"The noise on {what} is about {noise_to_clip_ratio:,.1f} times the clip norm, so this run is unlikely "
        f"to learn anything; it takes {takes}, or a larger epsilon."
    )


def secure_aggregation_warnings(communication: Mapping[str, Any]) -> list[str]:
    """Says when secure aggregation changed values, or hid nothing; `communication` is that part of a result."""
    secure = communication.get("secure_aggregation")
    if secure is None:
        return []
    clipped, bare = secure["clipped_values"], secure["bare_sums"]
    signs = []
    if bare:
        signs.append(
            f"{bare:,} sums of secure aggregation were of a single client, whose update the server has seen; give "
            "fewer clusters or more clients per round."
        )
    if clipped:
        signs.append(
            f"Secure aggregation clipped {clipped:,} values of the clients' updates to the bound of its encoding; give "
            "a larger --secagg_clip, or under differential privacy a larger --clip_norm."
        )
    return signs


def warning_signs(result: Mapping[str, Any], num_rounds: int) -> list[str]:
    """What to warn of in one run, gravest first.

    Args:
      result: the content of `result.json`.
      num_rounds: rounds that were asked for.

    Guarantees:
      A run without any of these signs gives none (test:
      `tests/reporting/test_warning_signs.py::test_a_sound_run_has_no_warning`).
    """
    signs = [
        _saw_labels(result.get("method") or {}),
        _no_labels(result.get("test")),
        *_privacy(result.get("privacy")),
        *secure_aggregation_warnings(result.get("communication") or {}),
        _convergence(result["timing"], num_rounds),
        _borrowed(result.get("alarms") or {}, result["dataset"].get("client_names")),
        *(f"Data: {note}" for note in result["dataset"].get("notes", [])),
    ]
    return [sign for sign in signs if sign]


def shared_warning_signs(results: Sequence[Mapping[str, Any]], num_rounds: int) -> list[str]:
    """What to warn of in many runs; what some of them have only is said with their number."""
    tally = Counter(sign for result in results for sign in warning_signs(result, num_rounds))
    return [
        sign if number == len(results) else f"{number} of {len(results)} runs: {sign}" for sign, number in tally.items()
    ]


def _saw_labels(method: Mapping[str, Any]) -> str:
    if not method.get("saw_attack_labels"):
        return ""
    return (
        f"{method['name']} saw attack labels in training. It is shown for comparison, and is no detector of unknown "
        "attacks."
    )


def _no_labels(test: Mapping[str, Any] | None) -> str:
    if test is not None:
        return ""
    return "The test rows carry no labels: the alarms are shown, but nothing can be said of how many of them are right."


def _privacy(privacy: Mapping[str, Any] | None) -> list[str]:
    if privacy is None:
        return []
    drowned = noise_warning(privacy.get("noise_to_clip_ratio") or 0.0, privacy["unit"])
    unbounded = "" if privacy.get("epsilon") is not None else "The noise is too small for a privacy guarantee."
    return [sign for sign in (drowned, unbounded) if sign]


def _convergence(timing: Mapping[str, Any], num_rounds: int) -> str:
    if timing.get("rounds_per_second") is None:  # no rounds, as of a classical method
        return ""
    converged = timing.get("convergence_round")
    if converged is None:
        return "The loss on held-out rows did not decrease."
    if converged > _LATE * num_rounds:
        return (
            f"The loss on held-out rows was still falling in the last tenth of the {num_rounds} rounds; more rounds "
            "may give a better detector."
        )
    return ""


def _borrowed(alarms: Mapping[str, Any], names: Sequence[str] | None) -> str:
    clients = alarms.get("clients_with_borrowed_threshold") or []
    if not clients:
        return ""
    return (
        f"{len(clients)} of {len(alarms['per_client'])} clients have too few held-out rows for a threshold of their "
        f"own and take that of a wider scope: {', '.join(names[c] if names else str(c) for c in clients)}."
    )
