import dataclasses

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from fedjax_anomaly.data.encoding import encoding_sums, fit_encoder
from fedjax_anomaly.data.table import Categorical
from tests.fleet import table

NAMES = ("bytes", "count", "protocol")


def test_anomalous_rows_are_refused():
    with pytest.raises(ValueError, match="1 of 3 rows to fit the encoding on are anomalous"):
        encoding_sums(table(3, attack=["normal", "flood", "normal"]))


def test_the_sums_of_clients_give_the_encoder_of_the_pooled_rows():
    pooled = table(90)
    parts = [pooled.take(rows) for rows in np.split(np.arange(90), [10, 55])]
    federated = fit_encoder([encoding_sums(part) for part in parts], NAMES)
    central = fit_encoder([encoding_sums(pooled)], NAMES)
    np.testing.assert_allclose(federated.mean, central.mean, rtol=1e-12)
    np.testing.assert_allclose(federated.deviation, central.deviation, rtol=1e-12)
    assert federated.vocabularies == central.vocabularies


def test_numeric_columns_equal_scikit_learns_scaler_on_signed_logs():
    rows = table(200)
    rows = dataclasses.replace(rows, numeric=rows.numeric - 1.0)
    logs = np.sign(rows.numeric) * np.log1p(np.abs(rows.numeric))
    expected = np.clip(StandardScaler().fit_transform(logs), -2.0, 2.0)
    encoder = fit_encoder([encoding_sums(rows)], NAMES, clip=2.0, deviation_floor=1e-6)
    np.testing.assert_allclose(encoder.transform(rows)[:, :2], expected, atol=1e-5)


def test_a_constant_column_is_divided_by_the_floor():
    rows = table(50)
    rows = dataclasses.replace(rows, numeric=np.full((50, 2), 3.0, np.float32))
    encoder = fit_encoder([encoding_sums(rows)], NAMES, deviation_floor=0.5)
    shifted = dataclasses.replace(rows, numeric=np.full((50, 2), 4.0, np.float32))
    # (log 5 - log 4) / 0.5 = 2 log 1.25
    np.testing.assert_allclose(encoder.transform(shifted)[:, :2], 2.0 * np.log(1.25), rtol=1e-5)


def test_rare_and_unseen_categories_share_the_last_bucket():
    rows = dataclasses.replace(table(12), categorical=(Categorical.from_strings(["tcp"] * 7 + ["udp"] * 4 + ["icmp"]),))
    encoder = fit_encoder([encoding_sums(rows)], NAMES, min_category_count=2)
    assert encoder.vocabularies == (("tcp", "udp"),)
    later = dataclasses.replace(table(3), categorical=(Categorical.from_strings(["udp", "icmp", "sctp"]),))
    np.testing.assert_array_equal(encoder.transform(later)[:, 2:], [[0, 1, 0], [0, 0, 1], [0, 0, 1]])


def test_a_category_only_seen_in_test_gets_no_bucket():
    rows = table(40, protocols=("tcp",))
    encoder = fit_encoder([encoding_sums(rows)], NAMES)
    assert encoder.layout.block_sizes == (2,)


def test_numeric_values_invert_the_encoding():
    rows = table(60)
    encoder = fit_encoder([encoding_sums(rows)], NAMES, clip=100.0)
    np.testing.assert_allclose(encoder.numeric_values(encoder.transform(rows)), rows.numeric, rtol=1e-4, atol=1e-5)


def test_other_columns_are_refused():
    encoder = fit_encoder([encoding_sums(table(20))], NAMES)
    with pytest.raises(ValueError, match="the encoder was fitted on"):
        encoder.transform(dataclasses.replace(table(3), numeric_names=("count", "bytes")))


def test_no_normal_row_is_refused():
    with pytest.raises(ValueError, match="no normal training row"):
        fit_encoder([encoding_sums(table(3).take(np.zeros(0, int)))], NAMES)
