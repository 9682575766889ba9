"""The application's configuration, which Celery loads at the first look."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import SecretStr

from federation.delivery.app import load, make
from federation.settings import Settings


def test_of_threads_that_load_it_at_once_none_goes_on_with_the_half_of_it(tmp_path: Path) -> None:
    reading, go = threading.Event(), threading.Event()
    broker = "activemq://a:b@127.0.0.1:1/"

    def read() -> Settings:
        reading.set()
        assert go.wait(60)
        return Settings(data_dir=tmp_path, broker_url=SecretStr(broker), database_service_url=SecretStr("postgresql://a:b@127.0.0.1:1/c"))

    app = make(read)

    def first_look() -> str:
        load(app)
        return str(app.conf.broker_url)

    with ThreadPoolExecutor(4) as pool:
        looks = [pool.submit(first_look)]
        # Here Celery shows its own defaults to whoever looks.
        assert reading.wait(60)
        looks += [pool.submit(first_look) for _ in range(3)]
        threading.Timer(0.2, go.set).start()
        assert {look.result(60) for look in looks} == {broker}
