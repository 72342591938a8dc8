"""Data sets, encoding, windows and the division over clients; NumPy only."""

from fedjax_anomaly.data.arrays import from_arrays
from fedjax_anomaly.data.clients import Federation, federate
from fedjax_anomaly.data.encoding import Encoder, encoding_sums, fit_encoder
from fedjax_anomaly.data.heterogeneity import Heterogeneity, heterogeneity
from fedjax_anomaly.data.load import load
from fedjax_anomaly.data.partition import partition
from fedjax_anomaly.data.private_encoding import EncodingNoise, fit_private_encoders
from fedjax_anomaly.data.shift import shift
from fedjax_anomaly.data.table import Categorical, Dataset, Table

__all__ = [
    "Categorical",
    "Dataset",
    "Encoder",
    "EncodingNoise",
    "Federation",
    "Heterogeneity",
    "Table",
    "encoding_sums",
    "federate",
    "fit_encoder",
    "fit_private_encoders",
    "from_arrays",
    "heterogeneity",
    "load",
    "partition",
    "shift",
]
