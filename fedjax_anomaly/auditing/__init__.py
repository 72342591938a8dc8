"""Attacks on a run: what its updates and its model really give away, beside what is claimed."""

from fedjax_anomaly.auditing.audit_run import ATTACKS, AuditSettings, audit_run, load_run
from fedjax_anomaly.auditing.canaries import CanaryScores, epsilon_lower_bound
from fedjax_anomaly.auditing.canary_audit import CanaryAudit, canary_audit
from fedjax_anomaly.auditing.leakage import Inversion, Prior, gradient_inverter, matched_errors
from fedjax_anomaly.auditing.leakage_audit import Leak, leakage_audit
from fedjax_anomaly.auditing.membership import Membership, membership_inference
from fedjax_anomaly.auditing.membership_audit import MembershipAudit, membership_audit

__all__ = [
    "ATTACKS",
    "AuditSettings",
    "CanaryAudit",
    "CanaryScores",
    "Inversion",
    "Leak",
    "Membership",
    "MembershipAudit",
    "Prior",
    "audit_run",
    "canary_audit",
    "epsilon_lower_bound",
    "gradient_inverter",
    "leakage_audit",
    "load_run",
    "matched_errors",
    "membership_audit",
    "membership_inference",
]
