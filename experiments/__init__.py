"""The paper's figures, one module each: ``run(config)``, ``plot(result)``, ``check(result)``."""
