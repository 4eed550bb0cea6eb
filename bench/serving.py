"""Times serving runs: seconds cold and warm, steps, events per token, microseconds per step."""

import time
from contextlib import closing

from sim.run.memo import Memo
from sim.run.serve import Bench
from sim.scenario.load import load_any
from sim.scenario.serve_scenario import ServeScenario
from sim.serving.trace_cut import cut_trace

SCENARIOS = (("serve_llama2_a100", None), ("serve_azure_conversation", 2000))


def main() -> None:
    """Print the table of `make bench`."""
    print(f"{'scenario':28}{'':6}{'s':>7}{'steps':>9}{'us/step':>9}{'events/token':>14}")
    for name, limit in SCENARIOS:
        scenario = load_any(name)
        assert isinstance(scenario, ServeScenario)
        with closing(Memo(None)) as memo:
            bench = Bench(scenario, scenario.contestants[0], memo)
            trace = cut_trace(scenario.trace, limit=limit)
            for how in ("cold", "warm"):
                start = time.perf_counter()
                run = bench.run(trace).run
                seconds = time.perf_counter() - start
                steps = sum(len(log.end_ps) for log in run.replicas)
                tokens = sum(request.output_tokens for request in run.requests)
                print(
                    f"{name:28}{how:6}{seconds:7.2f}{steps:9d}"
                    f"{1e6 * seconds / steps:9.1f}{run.events / tokens:14.3f}"
                )


if __name__ == "__main__":
    main()
