from unirex_ray.benchmarks.table import certainty_table


def test_a_row_per_number_of_seeds_and_their_spread():
    table = certainty_table(2)
    assert table.columns["Seeds"] == ["1", "3", "3", "3", "3", "5", "10"]
    for record in table.records:
        assert set(record) == {"seeds", "seed_spread", "raw", "cnrg", "false_alarms", "first"}
        assert 0 <= record["raw"] <= 1
        assert sum(record["first"]) > 0.99
