"""How fast the library is, beside others in the same run: ``python -m benchmarks``. ``docs/performance.rst`` has more.

The imports' order: measuring, servers, bare, ours, peers, handover, holding, workloads, suite, report, picture; scale.
"""
