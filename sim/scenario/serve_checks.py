"""Checks of a cluster that need its chip, its model and its settings together."""

from sim.checking import Checker
from sim.scenario.serve_scenario import ServeContestant
from sim.serving.kv_capacity import memory_plan
from sim.toml_source import KeyPath


def check_cluster(checker: Checker, path: KeyPath, contestant: ServeContestant) -> None:
    """Note settings that exclude each other, and a model that leaves no room for KV."""
    config = contestant.config
    if config.prefill_replicas and config.prefill_replicas >= config.replicas:
        checker.wrong(
            (*path, "prefill_replicas"),
            f"leaves none of {config.replicas} replicas to decode",
            expected="fewer than replicas",
        )
    if config.policy == "chunked_prefill" and config.max_num_batched_tokens < config.max_num_seqs:
        checker.wrong(
            (*path, "max_num_batched_tokens"),
            f"is less than max_num_seqs ({config.max_num_seqs}): a step could not hold its decodes",
            expected=f"{config.max_num_seqs} or more",
        )
    compute = contestant.weights.compute
    if compute not in contestant.hardware.tensor_flop_per_s:
        checker.wrong(path, f"{contestant.hardware.name} has no {compute} tensor rate")
        return
    _check_memory(checker, path, contestant)


def _check_memory(checker: Checker, path: KeyPath, contestant: ServeContestant) -> None:
    model = contestant.model
    plan = memory_plan(
        model,
        model,
        contestant.weights,
        contestant.kv,
        contestant.hardware,
        contestant.config,
        draft=contestant.draft,
    )
    if plan.blocks < 1 and plan.layout.groups:
        parts = {
            "weights": plan.weights_bytes,
            "activations": plan.activations_bytes,
            "runtime": plan.overhead_bytes,
        }
        told = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts.items())
        share = contestant.config.gpu_memory_utilization
        usable = plan.memory_bytes * share
        checker.wrong(
            path,
            f"{contestant.name} leaves no room for KV on {contestant.hardware.name}: "
            f"{told} GB of {usable / 1e9:.1f} GB ({share:g} of its memory)",
        )
