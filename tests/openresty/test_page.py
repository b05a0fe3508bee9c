"""The chat page in a real browser: type, watch the tokens come, stop, go on, reload."""

import os
import shutil
import time
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"
)

# Where screenshots are left, for people to look at.
PICTURES = Path(os.environ.get("PHI3_TEST_PICTURES", "build/pictures"))


class Page:
    """The page as a person sees it."""

    def __init__(self, browser, url):
        self.browser, self.url = browser, url
        browser.get(url)
        browser.execute_script("localStorage.clear()")
        browser.get(url)

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector):
        """In one step: while an answer comes, elements are replaced all the time."""
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())"
        return self.browser.execute_script(script, selector)

    def wait(self, condition, seconds=60):
        return WebDriverWait(self.browser, seconds, poll_frequency=0.05).until(
            lambda _: condition()
        )

    def say(self, text):
        self.find("#prompt").send_keys(text + Keys.ENTER)

    def answers(self):
        return self.texts(".message.assistant .text")

    def is_running(self):
        return bool(self.browser.find_elements(By.CSS_SELECTOR, ".message.running"))

    def wait_for_answer(self):
        self.wait(lambda: self.answers() and not self.is_running())
        return self.answers()[-1]

    def set(self, **settings):
        self.find("#open-settings").click()
        for name, value in settings.items():
            field = self.find(f"#settings [name={name}]")
            field.clear()
            field.send_keys(value)
        self.find("#settings .main").click()

    def picture(self, name):
        PICTURES.mkdir(parents=True, exist_ok=True)
        assert self.browser.save_screenshot(str(PICTURES / f"{name}.png"))


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield started
    started.quit()


@pytest.fixture
def page(browser, server):
    browser.set_window_size(1200, 860)
    yield Page(browser, server.url)
    severe = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert severe == []


def test_a_question_is_answered(page, server):
    page.wait(lambda: page.find("#model").text == server.model)
    page.set(temperature="0")
    page.say("What is the capital of France? Answer in one sentence.")
    assert page.wait_for_answer() == "The capital of France is Paris."
    assert "tokens/s" in page.find("#speed").text
    assert "8 tokens" in page.find(".facts").text
    page.picture("answer")


def test_tokens_appear_one_after_the_other(page):
    page.set(temperature="0")  # the same prose each time: of a list, the page shows no numbers
    page.say("Write a long story about the sea.")
    page.wait(lambda: page.is_running() and page.answers()[-1])
    seen = [page.answers()[-1]]
    while page.is_running() and len(seen) < 4:
        text = page.answers()[-1]
        if text != seen[-1]:
            seen.append(text)
    assert len(seen) == 4
    assert all(later.startswith(text) for text, later in pairwise(seen))
    page.find("#prompt").send_keys(Keys.ESCAPE)


def test_stop_and_go_on(page, server):
    page.say("Write a long story about the sea.")
    page.wait(lambda: page.is_running() and len(page.answers()[-1]) > 20)
    page.find("#stop").click()
    page.wait(lambda: not page.is_running())
    stopped = page.answers()[-1]
    assert "stopped" in page.texts(".facts")[-1]
    page.wait(lambda: server.total("phi3_running") == 0, seconds=10)
    time.sleep(0.3)
    assert page.answers()[-1] == stopped
    page.set(max_tokens="12")
    page.say("And then?")
    page.wait(lambda: len(page.answers()) == 2)
    assert page.wait_for_answer()
    assert page.answers()[0] == stopped


def test_reload_keeps_conversations(page):
    page.set(temperature="0", max_tokens="8")
    page.say("What is 2 + 2?")
    answer = page.wait_for_answer()
    page.find("#new").click()
    assert page.texts(".message") == []
    page.say("Hello!")
    page.wait_for_answer()
    page.browser.refresh()
    assert page.texts("#conversations .open") == ["Hello!", "What is 2 + 2?"]
    assert page.texts(".message.user .text") == ["Hello!"]
    page.find("#conversations li:nth-child(2) .open").click()
    assert page.answers() == [answer]
    assert page.find("#settings [name=max_tokens]").get_property("value") == "8"


def test_keys(page):
    page.set(max_tokens="4")
    box = page.find("#prompt")
    box.send_keys("one" + Keys.SHIFT + Keys.ENTER + Keys.NULL + "two" + Keys.ENTER)
    page.wait_for_answer()
    assert page.texts(".message.user .text") == ["one\ntwo"]
    box.send_keys(Keys.ARROW_UP)
    assert box.get_property("value") == "one\ntwo"
    assert page.texts(".message") == []
    box.send_keys(Keys.ALT, "n")
    assert page.texts(".message") == []


def test_what_the_model_says_is_text_not_html(page):
    page.browser.execute_script(
        "show({id: 'x', messages: [{role: 'user', content: '<b>u</b>'},"
        "{role: 'assistant', content: '<img src=x onerror=alert(1)> **bold**\\n\\n"
        "```\\n<script>alert(2)</script>\\n```\\n[l](javascript:alert(3))'}]})"
    )
    assert page.texts(".message.user .text") == ["<b>u</b>"]
    assert page.answers()[0].splitlines()[0] == "<img src=x onerror=alert(1)> bold"
    assert page.texts("pre code") == ["<script>alert(2)</script>"]
    found = page.browser.find_elements(By.CSS_SELECTOR, ".text img, .text script, .text a")
    assert found == []


def test_the_servers_error_is_shown(page):
    page.browser.execute_script("settings.temperature = -1")
    page.say("Hello!")
    page.wait(lambda: page.texts(".failure"))
    assert "temperature" in page.texts(".failure")[0]
    page.browser.get_log("browser")  # the browser itself reports the 400


def test_a_phone_has_room(page):
    page.browser.set_window_size(500, 860)  # as narrow as a headless window gets
    page.set(max_tokens="8")
    page.say("Hello!")
    page.wait_for_answer()
    script = "return document.documentElement.scrollWidth <= innerWidth"
    assert page.browser.execute_script(script)
    assert not page.find("#new").is_displayed()
    page.picture("phone")
    page.find("#menu").click()
    page.wait(lambda: page.find("#new").is_displayed())
    page.picture("phone-conversations")


def test_light_and_dark(page):
    colour = "return getComputedStyle(document.body).backgroundColor"
    seen = {}
    for theme in ("light", "dark"):
        page.browser.execute_script(f"settings.theme = '{theme}'; applySettings()")
        seen[theme] = page.browser.execute_script(colour)
    assert seen == {"light": "rgb(251, 250, 248)", "dark": "rgb(23, 22, 20)"}
    page.picture("dark")
