"""What a person does without a mouse, and without JavaScript."""

from __future__ import annotations

import pytest

from evermuse_outbox.models import BatchState, OperationState, OutboxAction, OutboxBatch, OutboxOperation

from .chromium import Chromium

TAB, ENTER, SPACE = ("Tab", 9), ("Enter", 13, "\r"), (" ", 32, " ")

MAX_TABS = 150
"""Links, fields and buttons before the one that is looked for, those of Django's header and sidebar included."""

FOCUSED = "(document.activeElement.textContent || document.activeElement.value || document.activeElement.name).trim()"

LOOKS = """
(() => {
  const { outlineStyle, boxShadow, backgroundColor, borderColor } = getComputedStyle(document.activeElement);
  return [outlineStyle, boxShadow, backgroundColor, borderColor].join(" ");
})()
"""


def page_of(live_server, model: str, pk: object = "") -> str:
    """Return the address of a list or of the page of a row."""
    return f"{live_server.url}/admin/evermuse_outbox/outbox{model}/{f'{pk}/change/' if pk else ''}"


def tab_to(browser: Chromium, text: str) -> None:
    """Press the tab key until the element with this text has the focus."""
    for _ in range(MAX_TABS):
        browser.press(*TAB)
        if browser.run(FOCUSED) == text:
            return
    raise AssertionError(f"the tab key does not reach {text!r}")


@pytest.fixture
def waiting(browser: Chromium) -> OutboxBatch:
    return OutboxBatch.objects.filter(state=BatchState.SEALED, record_count=1_000).get()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_wait_is_ended_by_keyboard(
    browser: Chromium, live_server, waiting: OutboxBatch, scripts: bool
) -> None:
    browser.allow_scripts(scripts)
    browser.open(page_of(live_server, "batch", waiting.pk))
    tab_to(browser, "Retry now")
    with_focus = browser.run(LOOKS)
    browser.expect_page(lambda: browser.press(*ENTER))
    assert "Retry now" in browser.run("document.querySelector('#content').innerText")
    assert browser.run("document.querySelectorAll('.messagelist .success').length") == 1
    assert OutboxAction.objects.filter(kind="retry_now", target=f"batch #{waiting.pk}").exists()
    browser.run(
        "[...document.querySelectorAll('button')].find((b) => b.textContent.trim() === 'Retry now').focus()"
    )
    browser.run("document.activeElement.blur()")
    assert with_focus != browser.run(
        LOOKS.replace("document.activeElement", "document.querySelector('#content button')")
    )


def test_records_are_selected_and_retried_without_scripts(browser: Chromium, live_server) -> None:
    browser.allow_scripts(False)
    browser.open(page_of(live_server, "record") + "?state=rejected")
    browser.run("document.querySelector('input[name=_selected_action]').click()")
    browser.run("document.querySelector('select[name=action]').value = 'start_retry'")
    browser.submit("document.querySelector('button[name=index]').click()")
    assert OutboxOperation.objects.latest("pk").state == OperationState.READY
    browser.submit(
        "document.querySelector('[name=action][value=confirm]').form.querySelector('button').click()"
    )
    assert OutboxOperation.objects.latest("pk").state == OperationState.RUNNING


def test_attempts_open_without_scripts(browser: Chromium, live_server, waiting: OutboxBatch) -> None:
    browser.allow_scripts(False)
    browser.open(page_of(live_server, "batch", waiting.pk))
    browser.run("document.querySelector('#content summary').focus()")
    browser.press(*SPACE)
    assert browser.run("document.querySelector('#content details').open")
