"""The contract of services that are asked over a network: what they do when it, or the service, fails.

A test file supplies, besides `service`, the fixtures `server`, the one that answers it, and `second`, another of
the same model with the same key. Servers are of `tests.wire`.
"""

import logging
import socket
import threading
import traceback
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any, ClassVar

import numpy as np
import pytest

from squadron.embeddings.remote.failures import BusyServiceError, DeniedServiceError, RefusedTextsError
from squadron.embeddings.remote.remote_model import HARMLESS_TEXT
from squadron.errors import EmbeddingError, SettingsError
from tests.embeddings.subject import Service, numbered
from tests.wire.embedding_service import EmbeddingServer

CONCURRENCY = 4
"""What the settings of `service` say."""
BATCH_TEXTS = 8
PACE = {
    "timeout_seconds": 1,
    "deadline_seconds": 2,
    "concurrency": 1,
    "batch_texts": 1,
    "requests_per_minute": 1,
    "tokens_per_minute": 1,
    "max_tokens": 100,
}
"""Settings that every service has, and that no vector depends on."""


def unused_url() -> str:
    """An address at which nothing answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


class RemoteContract:
    """What every service with a network does."""

    variable: ClassVar[str]
    """The environment variable of the key."""
    connection: ClassVar[str]
    """The Airflow connection of the key."""
    most_texts: ClassVar[int]
    """Texts that the service takes in one request."""
    own_place: ClassVar[Mapping[str, Any]]
    """Settings that point at the service itself."""

    def base_url(self, url: str) -> str:
        """The setting for a server's address."""
        return url

    def with_places(self, service: Service, *urls: str, **changes: Any) -> Service:
        """The service at these addresses, in the order of preference."""
        first, *others = [self.base_url(url) for url in urls]
        return service.having(base_url=first, fallback_base_urls=others, **changes)

    # Failures that pass

    @pytest.mark.parametrize(
        "wait",
        [{"retry-after": "0.02"}, {"retry-after-ms": "20"}, {"retry-after": formatdate(usegmt=True)}, {}],
        ids=["seconds", "milliseconds", "date", "unsaid"],
    )
    def test_too_many_requests_are_waited_out(
        self, service: Service, server: EmbeddingServer, wait: dict[str, str]
    ) -> None:
        fault = server.faults.add("POST", status=429, headers=wait, times=2)
        vectors = service.passages(["one", "two"])
        assert fault.done == 2
        assert vectors.shape == (2, service.dimension)
        assert set(server.embedded.values()) == {1}

    def test_too_many_requests_for_ever_end_at_the_deadline(self, service: Service, server: EmbeddingServer) -> None:
        fault = server.faults.add("POST", status=429, headers={"retry-after": "0"})
        with pytest.raises(BusyServiceError, match=r"answered 429.*deadline_seconds = 2\..*tokens_per_minute"):
            service.having(deadline_seconds=2).passages(["one"])
        assert 2 <= fault.done <= 20

    def test_a_wait_beyond_the_deadline_is_not_begun(self, service: Service, server: EmbeddingServer) -> None:
        server.faults.add("POST", status=429, headers={"retry-after": "3600"})
        with pytest.raises(BusyServiceError) as raised:
            service.passages(numbered(50))
        assert raised.value.retry_after == pytest.approx(3800, abs=201)
        assert len(server.seen) == 1

    @pytest.mark.parametrize("status", [500, 502, 503, 529])
    def test_a_failing_server_is_asked_again(self, service: Service, server: EmbeddingServer, status: int) -> None:
        fault = server.faults.add("POST", status=status, body="<html>Bad Gateway</html>", times=2)
        assert service.passages(["one"]).shape == (1, service.dimension)
        assert fault.done == service.model.failed.total() == 2  # none was hidden by the client's own retries

    def test_a_late_answer_is_asked_for_again(self, service: Service, server: EmbeddingServer) -> None:
        fault = server.faults.add("POST", delay_seconds=60, times=1)
        assert service.having(timeout_seconds=0.5).passages(["one"]).shape == (1, service.dimension)
        assert fault.done == 1

    def test_a_connection_cut_in_the_middle_is_made_again(self, service: Service, server: EmbeddingServer) -> None:
        fault = server.faults.add("POST", dropped=True, times=1)
        assert service.passages(["one"]).shape == (1, service.dimension)
        assert fault.done == 1

    @pytest.mark.parametrize("kind", ["text/html", "application/json"])
    def test_a_garbled_answer_is_asked_for_again(self, service: Service, server: EmbeddingServer, kind: str) -> None:
        fault = server.faults.add("POST", status=200, headers={"Content-Type": kind}, body="<html>Hello", times=1)
        assert service.passages(["one"]).shape == (1, service.dimension)
        assert fault.done == 1

    def test_failures_among_many_requests_lose_and_repeat_nothing(
        self, service: Service, server: EmbeddingServer
    ) -> None:
        texts = numbered(120)
        service.passages(texts[:1])
        expected = service.passages(texts)
        server.embedded.clear()
        fault = server.faults.add("POST", status=503, headers={"retry-after-ms": "5"}, every=3)
        assert np.array_equal(service.passages(texts), expected)
        assert fault.done > 3
        assert set(server.embedded.values()) == {1}

    def test_an_address_without_a_server_is_named(self, service: Service) -> None:
        url = unused_url()
        with pytest.raises(BusyServiceError, match=f"{url.removeprefix('http://')} cannot be reached"):
            self.with_places(service, url, deadline_seconds=0.3).passages(["one"])

    # Failures that do not

    def test_a_wrong_key_costs_one_request(
        self, service: Service, server: EmbeddingServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        server.key = "another"
        with pytest.raises(DeniedServiceError, match=f"401.*{self.variable}.*{self.connection}") as raised:
            service.passages(numbered(100))
        assert len(server.seen) == 1
        assert service.secret
        assert service.secret not in caplog.text
        assert service.secret not in "".join(traceback.format_exception(raised.value))
        assert raised.value.__context__ is None

    def test_a_key_that_is_revoked_ends_all_work(self, service: Service, server: EmbeddingServer) -> None:
        service.passages(["one"])
        server.key = "another"
        before = len(server.seen)
        with pytest.raises(DeniedServiceError, match="401"):
            service.passages(numbered(200))
        assert len(server.seen) - before <= CONCURRENCY

    def test_what_waits_for_its_turn_ends_with_the_rest(self, service: Service, server: EmbeddingServer) -> None:
        slow = service.having(tokens_per_minute=60)
        slow.passages(["one"])
        server.key = "another"
        with pytest.raises(DeniedServiceError, match="401"):
            slow.passages(numbered(200))
        for thread in threading.enumerate():
            if thread.name.startswith("embedding"):
                thread.join(timeout=20)
                assert not thread.is_alive()

    def test_a_missing_key_is_named_before_anything_is_sent(
        self, service: Service, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv(self.variable)
        with pytest.raises(SettingsError, match=f"{self.variable} is not set.*{self.connection}"):
            service.having(**self.own_place).value("model")
        assert not server.seen

    def test_a_key_with_white_space_within_is_not_shown(
        self, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(self.variable, "two words")
        with pytest.raises(SettingsError, match=self.variable) as raised:
            service.having().value("model")
        assert "two words" not in str(raised.value)

    def test_no_secret_is_shown(self, service: Service) -> None:
        service.passages(["one"])
        shown = [service.value("vector_space"), service.settings, service.model, vars(service.model), service]
        assert service.secret
        assert service.secret not in repr(shown[:4])

    @pytest.mark.parametrize(
        "url", ["http://user:hidden@127.0.0.1", "https://hidden@127.0.0.1:1"], ids=["password", "user"]
    )
    def test_an_address_with_a_secret_is_refused_without_showing_it(self, service: Service, url: str) -> None:
        with pytest.raises(SettingsError, match="base_url") as raised:
            service.having(base_url=url).value("model")
        assert "hidden" not in str(raised.value)

    @pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://127.0.0.1", ""])
    def test_what_is_no_address_is_refused(self, service: Service, url: str) -> None:
        with pytest.raises(SettingsError, match="fallback_base_urls"):
            service.having(fallback_base_urls=[url]).value("model")

    def test_an_unknown_model_costs_one_request_and_is_named(self, service: Service, server: EmbeddingServer) -> None:
        with pytest.raises(DeniedServiceError, match=r"404.*'no-such-model'.*model"):
            service.having(model="no-such-model", dimensions=8, max_tokens=64).passages(numbered(100))
        assert len(server.seen) == 1

    def test_a_model_of_unknown_width_is_refused_before_anything_is_sent(self, service: Service) -> None:
        own = service.having(model="no-such-model", dimensions=None)
        with pytest.raises(SettingsError, match=r"'no-such-model'.*set embedding\.\w+\.dimensions"):
            own.value("dimension")
        with pytest.raises(SettingsError, match=r"'no-such-model'.*set embedding\.\w+\.max_tokens"):
            own.value("model_max_tokens")

    @pytest.mark.parametrize("status", [402, 403, 405])
    def test_other_refusals_are_final(self, service: Service, server: EmbeddingServer, status: int) -> None:
        server.faults.add("POST", status=status, body="{}")
        with pytest.raises(DeniedServiceError, match=str(status)):
            service.passages(numbered(100))
        assert len(server.seen) == 1

    def test_vectors_of_another_width_are_refused(self, service: Service, server: EmbeddingServer) -> None:
        server.width = 24
        with pytest.raises(DeniedServiceError, match=rf"24 dimensions.*wanted {service.dimension}.*dimensions"):
            service.passages(["one"])

    def test_a_vector_that_is_missing_is_noticed(self, service: Service, server: EmbeddingServer) -> None:
        server.lost = 1
        with pytest.raises(DeniedServiceError, match="1 vectors to 2 texts"):
            service.having(concurrency=1).passages(["one", "two"])

    # Texts that are refused

    def test_refused_texts_are_named_and_the_others_have_their_vectors(
        self, service: Service, server: EmbeddingServer
    ) -> None:
        texts = numbered(60)
        expected = service.passages(texts)
        server.refused.update([texts[7], texts[41]])
        with pytest.raises(RefusedTextsError, match="refused 2 of 60 texts, the first at position 7") as raised:
            service.passages(texts)
        assert set(raised.value.reasons) == {7, 41}
        assert all("400" in reason for reason in raised.value.reasons.values())
        others = np.delete(np.arange(60), [7, 41])
        assert np.array_equal(raised.value.embeddings[others], expected[others])
        assert np.isnan(raised.value.embeddings[[7, 41]]).all()
        assert isinstance(raised.value, EmbeddingError)

    def test_a_refused_text_that_comes_twice_is_named_twice(self, service: Service, server: EmbeddingServer) -> None:
        server.refused.add("bad")
        with pytest.raises(RefusedTextsError) as raised:
            service.passages(["bad", "good", "bad"])
        assert set(raised.value.reasons) == {0, 2}

    def test_a_service_that_refuses_every_text_is_not_asked_for_each(
        self, service: Service, server: EmbeddingServer
    ) -> None:
        texts = numbered(200)
        server.refused.update([*texts, HARMLESS_TEXT])
        with pytest.raises(DeniedServiceError, match="refuses whatever it is asked"):
            service.passages(texts)
        assert len(server.seen) == 2

    def test_a_text_whose_vector_is_not_finite_is_refused(self, service: Service, server: EmbeddingServer) -> None:
        server.pointless.add("pointless")
        with pytest.raises(RefusedTextsError, match="length nan") as raised:
            service.passages(["fine", "pointless", "fine too"])
        assert set(raised.value.reasons) == {1}
        assert np.isfinite(raised.value.embeddings[[0, 2]]).all()

    def test_a_text_that_is_not_unicode_is_refused_and_not_sent(
        self, service: Service, server: EmbeddingServer
    ) -> None:
        with pytest.raises(RefusedTextsError, match="not Unicode") as raised:
            service.passages(["fine", "half of a pair \ud83e"])
        assert set(raised.value.reasons) == {1}
        assert set(server.embedded) == {"fine"}

    # Other places of the same model

    def test_when_one_place_fails_another_answers(
        self, service: Service, server: EmbeddingServer, second: EmbeddingServer
    ) -> None:
        expected = service.passages(numbered(40))
        server.faults.add("POST", status=500)
        both = self.with_places(service, server.url, second.url)
        assert np.array_equal(both.passages(numbered(40)), expected)
        assert set(both.model.answered) == {second.url.removeprefix("http://")}
        assert set(both.model.failed) == {server.url.removeprefix("http://")}
        assert set(second.embedded.values()) == {1}

    def test_a_place_that_limits_the_rate_is_relieved_by_another(
        self, service: Service, server: EmbeddingServer, second: EmbeddingServer
    ) -> None:
        server.faults.add("POST", status=429, headers={"retry-after": "3600"})
        both = self.with_places(service, server.url, second.url)
        both.passages(numbered(100))
        assert len(server.seen) == 1
        assert second.answered > 1

    def test_a_place_that_refuses_the_key_is_asked_once(
        self, service: Service, server: EmbeddingServer, second: EmbeddingServer
    ) -> None:
        server.key = "another"
        both = self.with_places(service, server.url, second.url)
        both.passages(numbered(40))
        both.passages(numbered(40))
        assert len(server.seen) == 1

    def test_when_all_places_refuse_the_key_each_is_named_and_asked_once(
        self, service: Service, server: EmbeddingServer, second: EmbeddingServer
    ) -> None:
        server.key = second.key = "another"
        with pytest.raises(DeniedServiceError) as raised:
            self.with_places(service, server.url, second.url).passages(numbered(100))
        for place in (server, second):
            assert place.url.removeprefix("http://") in str(raised.value)
            assert len(place.seen) == 1

    # What is sent

    def test_no_text_is_sent_twice(self, service: Service, server: EmbeddingServer) -> None:
        texts = numbered(150)
        service.passages([*texts, *texts[:20]])
        assert set(server.embedded) == set(texts)
        assert set(server.embedded.values()) == {1}
        assert sum(len(seen.texts) for seen in server.seen) == 150

    def test_requests_hold_no_more_texts_than_the_setting_allows(
        self, service: Service, server: EmbeddingServer
    ) -> None:
        service.passages(numbered(150))
        assert max(len(seen.texts) for seen in server.seen) == BATCH_TEXTS

    def test_requests_are_as_large_as_the_service_takes_when_they_are_limited(
        self, service: Service, server: EmbeddingServer
    ) -> None:
        count = 2 * self.most_texts + 1
        service.having(batch_texts=self.most_texts, requests_per_minute=6000).passages(numbered(count))
        assert sorted(len(seen.texts) for seen in server.seen) == [1, self.most_texts, self.most_texts]

    def test_requests_go_side_by_side_as_many_as_the_setting_allows(
        self, service: Service, server: EmbeddingServer
    ) -> None:
        service.passages(["one"])
        server.meeting = threading.Barrier(CONCURRENCY)
        service.passages(numbered(4 * CONCURRENCY * BATCH_TEXTS))
        assert server.most_in_flight == CONCURRENCY

    def test_tokens_billed_are_those_that_the_service_counted(self, service: Service, server: EmbeddingServer) -> None:
        service.passages(numbered(50))
        service.questions(["what is a duck"])
        assert service.model.billed_tokens == server.tokens_billed > 50

    def test_requests_answered_are_counted(self, service: Service, server: EmbeddingServer) -> None:
        service.passages(numbered(50))
        assert service.model.answered == {server.url.removeprefix("http://"): server.answered}

    def test_a_server_that_does_not_know_base64_gives_digits(self, service: Service, server: EmbeddingServer) -> None:
        expected = service.passages(numbered(30))
        server.knows_base64 = False
        assert np.array_equal(service.having().passages(numbered(30)), expected)
