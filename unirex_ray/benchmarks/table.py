"""What was measured, as tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields

from unirex_ray.benchmarks.certainty import study
from unirex_ray.benchmarks.data import measure_data
from unirex_ray.benchmarks.engine import WORKLOADS, Workload, measure_engine
from unirex_ray.benchmarks.extraction import measure_extraction
from unirex_ray.benchmarks.search import measure_search
from unirex_ray.benchmarks.trial import TrialCost, measure_trial
from unirex_ray.config import Config, Tree, build_config
from unirex_ray.data.load import load_corpus
from unirex_ray.files import writable_folder
from unirex_ray.methods import METHODS
from unirex_ray.report.paper_tables import IG_STEPS
from unirex_ray.report.table import ReportTable, method_label, number_text
from unirex_ray.training.prepare import choose_precision


def configs_by_method(tree: Tree) -> dict[str, Config]:
    """The configuration of the tree's method, or of every method where it names `all`."""
    methods = METHODS if tree.get("method") == "all" else (build_config(tree).method,)
    return {method: choose_precision(build_config(tree, {"method": method}))[0] for method in methods}


def measure(what: str, configs: Mapping[str, Config], *, lengths: str | None, runs: int, instances: int) -> ReportTable:
    """What `jobs/benchmark.py` measures by this name.

    Args:
        configs: by method.
        lengths: of which workload, for `engine`; None: of each.
        runs: of `engine` and `extraction`.
        instances: see `data_table`.
    """
    workloads = {name: workload for name, workload in WORKLOADS.items() if lengths in (None, name)}
    measures: dict[str, Callable[[], ReportTable]] = {
        "engine": lambda: engine_table(configs, workloads, runs=runs),
        "trial": lambda: trial_table(configs),
        "extraction": lambda: extraction_table(next(iter(configs.values())), runs=runs),
        "data": lambda: data_table(next(iter(configs.values())), instances),
        "search": search_table,
        "certainty": certainty_table,
    }
    return measures[what]()


def engine_table(configs: Mapping[str, Config], workloads: Mapping[str, Workload], *, runs: int) -> ReportTable:
    """Measure each method on each workload; one row per method, workload and stage.

    Args:
        configs, workloads: by name.
    """
    results = [
        (method, name, result)
        for method, config in configs.items()
        for name, workload in workloads.items()
        for result in measure_engine(config, workload, runs=runs)
    ]
    return ReportTable(
        title="Steps and IG as multiples of plain fine-tuning, evaluation of plain prediction (lower is better)",
        lead={
            "Method": [method for method, _, _ in results],
            "Stage": [result.stage for _, _, result in results],
            "Lengths": [workload for _, workload, _ in results],
        },
        scores={
            "Step": [_times(result.step) for _, _, result in results],
            "Evaluation": [_times(result.evaluation) for _, _, result in results],
            "IG": [_times(result.attribution) for _, _, result in results],
            "IG by Captum": [_times(result.captum_attribution) for _, _, result in results],
            "Logits differ": [f"{result.logits_difference:.1e}" for _, _, result in results],
            "Loss differs": [f"{result.loss_difference:.1e}" for _, _, result in results],
            "Gradient differs": [f"{result.gradient_difference:.1e}" for _, _, result in results],
        },
        raw={},
        records=[{"method": method, "lengths": workload, **asdict(result)} for method, workload, result in results],
    )


def trial_table(configs: Mapping[str, Config]) -> ReportTable:
    """Train each method for real, one after the other; one row per method: a trial's seconds by what they go into.

    Args:
        configs: by method, of one corpus.
    """
    corpus = load_corpus(next(iter(configs.values())).data)
    costs = {method: measure_trial(config, corpus) for method, config in configs.items()}
    parts = [part.name for part in fields(TrialCost)]
    return ReportTable(
        title="Seconds of a trial by what they are spent on",
        lead={"Method": [method_label(method) for method in costs]},
        scores={"Total": [f"{cost.total:.2f}" for cost in costs.values()]},
        raw={part.capitalize(): [f"{getattr(cost, part):.2f}" for cost in costs.values()] for part in parts},
        records=[{"method": method, "total": cost.total, **asdict(cost)} for method, cost in costs.items()],
    )


def extraction_table(config: Config, *, runs: int) -> ReportTable:
    """Time the rows of Table 4, one after the other, and leave the times in the output folder for a comparison."""
    output = writable_folder(config.output)
    times = measure_extraction(config, runs=runs)
    file = times.write(output)
    means = {row: statistics.mean(seconds) for row, seconds in times.seconds.items()}
    slowest = f"AA (IG-{IG_STEPS[-1]})"
    return ReportTable(
        title=f"Extraction on {config.data.name}, in ms per instance (lower is better)",
        lead={"Method": list(means)},
        scores={
            "ms per instance": [
                number_text(1000 * means[row], 3, 1000 * statistics.stdev(seconds))
                for row, seconds in times.seconds.items()
            ],
            f"x faster than {slowest}": [f"{means[slowest] / mean:.1f}" for mean in means.values()],
        },
        raw={},
        remarks=[f"Time: {times.conditions}", f"Written to {file}, where compare reads it for Table 4."],
        records=[{"row": row, "seconds": list(seconds)} for row, seconds in times.seconds.items()],
    )


def search_table(sizes: Iterable[int] = (10, 100, 1000, 10_000)) -> ReportTable:
    """One row per number of trials that have ended: what the next step of a sweep costs its driver.

    Args:
        sizes: even numbers of trials.
    """
    costs = [measure_search(size) for size in sizes]
    return ReportTable(
        title="A sweep's schedule and searcher, in ms (lower is better)",
        lead={"Trials": [f"{cost.trials:,}" for cost in costs]},
        scores={
            "Suggestion": [f"{cost.suggestion_ms:.1f}" for cost in costs],
            "Next": [f"{cost.next_ms:.2f}" for cost in costs],
            "Report at a rung": [f"{cost.report_ms:.1f}" for cost in costs],
            "Compare": [f"{cost.compare_ms:.1f}" for cost in costs],
        },
        raw={},
        records=[asdict(cost) for cost in costs],
    )


def certainty_table(experiments: int = 1000) -> ReportTable:
    """One row per number of seeds and how far they spread: what intervals and tests of a comparison keep."""
    settings = ((1, 0.0), (3, 0.0), (3, 0.5), (3, 1.0), (3, 2.0), (5, 1.0), (10, 1.0))
    found = [study(experiments, seeds=seeds, seed_spread=spread) for seeds, spread in settings]
    return ReportTable(
        title=f"Shares of {experiments:,} simulated experiments with 200 test instances",
        lead={
            "Seeds": [str(seeds) for seeds, _ in settings],
            "Spread over seeds": [f"{spread:g} SE" for _, spread in settings],
        },
        scores={
            "95 % of raw metrics": [f"{row.raw:.3f}" for row in found],
            "95 % of CNRG": [f"{row.cnrg:.3f}" for row in found],
            "Test at 5 %": [f"{row.false_alarms:.3f}" for row in found],
            "Three equal methods first": [" ".join(f"{share:.2f}" for share in row.first) for row in found],
        },
        raw={},
        remarks=["SE: the standard error over instances, which is what intervals of a single seed show."],
        records=[
            {"seeds": seeds, "seed_spread": spread, **asdict(row)}
            for (seeds, spread), row in zip(settings, found, strict=True)
        ],
    )


def data_table(config: Config, instances: int) -> ReportTable:
    """One row: what it costs to prepare a corpus with so many train instances."""
    cost = measure_data(config, instances)
    return ReportTable(
        title="Preparing a corpus like e-SNLI, the first time and from the cache",
        lead={"Instances": [f"{cost.instances:,}"]},
        scores={"First (s)": [f"{cost.first_s:.2f}"], "Again (s)": [f"{cost.again_s:.2f}"]},
        raw={"Files (MB)": [f"{cost.megabytes:.1f}"], "Peak memory (GB)": [f"{cost.peak_gb:.2f}"]},
        records=[asdict(cost)],
    )


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"
