"""What was tried: git's and DVC's states and MLflow's runs, and the way from either to the other.

`states` reads git, `words` says what belongs together; asking MLflow is `tracking`'s.
"""
