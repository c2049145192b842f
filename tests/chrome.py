"""A headless Chromium for tests of pages, spoken to over its debugging port; nothing is there to be tested in itself."""
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


class Chrome:
    "One tab"
    def __enter__(self):
        from websocket import create_connection
        self.home = tempfile.mkdtemp(prefix="chrome-")
        self.process = subprocess.Popen(
            [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--hide-scrollbars",
             "--remote-allow-origins=*", "--no-first-run", "--disable-extensions", "--disable-background-networking",
             f"--user-data-dir={self.home}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port, until = Path(self.home, "DevToolsActivePort"), time.monotonic() + 60
        while not (port.exists() and port.read_text().strip()):
            if time.monotonic() > until: self.__exit__(); raise TimeoutError("Chromium does not start")
            time.sleep(.1)
        tabs = json.load(urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json"))
        self.socket = create_connection(next(t for t in tabs if t["type"] == "page")["webSocketDebuggerUrl"], timeout=60)
        self.count, self.events = 0, []
        for domain in ("Page", "Network", "Runtime", "Log"): self.call(f"{domain}.enable")
        return self

    def __exit__(self, *why):
        if hasattr(self, "socket"): self.socket.close()
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.home, ignore_errors=True)

    def call(self, method: str, **params) -> dict:
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while True:
            got = json.loads(self.socket.recv())
            if got.get("id") == self.count:
                if "error" in got: raise RuntimeError(f"{method}: {got['error']}")
                return got["result"]
            self.events.append(got)

    def open(self, address: str, width: int = 1400, height: int = 1000, dark: bool = False, wait: float = .4) -> list[dict]:
        "Load a page, wait until it and its formulas are there; what happened meanwhile"
        self.events = []
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("Page.navigate", url=address)
        until = time.monotonic() + 30
        while self.run("location.href.split('#')[0]") != address.split("#")[0] or self.run("document.readyState") != "complete":
            if time.monotonic() > until: raise TimeoutError(address)
            time.sleep(.05)
        if self.run("typeof MathJax === 'object' && !!MathJax.startup && !!MathJax.startup.promise"):
            self.run("MathJax.startup.promise.then(() => 1)")
        time.sleep(wait)
        self.run("1")  # collects what came in while waiting
        return self.events

    def run(self, code: str):
        "The value of a JavaScript expression; a promise is waited for"
        got = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in got: raise RuntimeError(str(got["exceptionDetails"])[:500])
        return got["result"].get("value")

    def picture(self, path: Path, full: bool = False) -> None:
        import base64
        self.call("Runtime.evaluate", expression="document.querySelectorAll('img[loading]').forEach(i => i.loading = 'eager')")
        time.sleep(.3)
        more = {"captureBeyondViewport": True} if full else {}
        if full:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            more["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 6000), "scale": 1}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", **more)["data"]))
