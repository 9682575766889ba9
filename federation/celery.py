"""The application that `celery -A federation` finds: workers, beat, inspect, Flower; loads no model and no door."""

from federation.importing import importing

with importing():
    from federation.delivery import worker
    from federation.delivery.app import application
    from federation.delivery.flower_login import guard_metrics
    from federation.tasks import MODULES

app = application()
app.add_defaults(lambda: {"include": list(MODULES)})
worker.install(app)
guard_metrics()
