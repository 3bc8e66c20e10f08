"""How many replicas the load asks for: the algorithm of the Kubernetes HorizontalPodAutoscaler.

``proposals``: one metric to one count. ``behaviour``: what of it may happen now (stabilisation
windows, policies, bounds). ``deciding``: a service's metrics to a recommendation, and that to the
count in force. Source of the rules: the documentation of autoscaling/v2 and the published unit
cases of its controller, which are our golden tests (``tests/core/hpa_cases.toml``).

Pure, and linear in the number of replicas.
"""
