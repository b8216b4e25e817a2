"""Pages in headless Chromium: see the fixture `browser`."""

PATIENCE = 120_000  # milliseconds, for machines that have much else to do


class Visit:
    """An open page, what it wrote to the console, and what it asked for."""

    def __init__(self, browser, url, **options):
        self.page = browser.new_page(**options)
        self.page.set_default_timeout(PATIENCE)
        self.messages, self.requests = [], []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("dialog", lambda dialog: self.messages.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)
