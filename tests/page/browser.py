"""Headless Chromium, steered through its debugging pipe: messages of JSON with a NUL behind each."""
import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-extensions", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--hide-scrollbars", "--remote-debugging-pipe",
         "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]


def find():
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One browser with one page. What the console says and what is asked of whom is kept."""

    def __init__(self, folder):
        self.downloads = os.path.join(folder, "downloads")
        os.makedirs(self.downloads, exist_ok=True)
        to_browser, self.writer = os.pipe()
        self.reader, from_browser = os.pipe()

        def place():  # the browser reads at 3 and writes at 4
            kept = [os.dup(to_browser), os.dup(from_browser)]
            while min(kept) < 5:
                kept = [os.dup(number) for number in kept]
            os.dup2(kept[0], 3)
            os.dup2(kept[1], 4)

        self.process = subprocess.Popen(
            [find(), *FLAGS, "--user-data-dir=" + tempfile.mkdtemp(dir=folder), "about:blank"],
            preexec_fn=place, close_fds=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.buffer = b""
        self.number = 0
        self.session = None
        self.console = []
        self.addresses = []
        self.session = self.call("Target.attachToTarget", targetId=self.find_page(),
                                 flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")
        self.call("Performance.enable", timeDomain="threadTicks")  # not what others make it wait
        self.call("Page.setDownloadBehavior", behavior="allow", downloadPath=self.downloads)

    def find_page(self):
        """The browser answers before its page is there."""
        end = time.monotonic() + 60
        while True:
            for target in self.call("Target.getTargets")["targetInfos"]:
                if target["type"] == "page":
                    return target["targetId"]
            if time.monotonic() > end:
                raise RuntimeError("the browser opens no page")
            self.receive(0.05)

    def receive(self, seconds):
        end = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            if not select.select([self.reader], [], [], max(0, end - time.monotonic()))[0]:
                return None
            read = os.read(self.reader, 1 << 20)
            if not read:
                raise RuntimeError("the browser has ended")
            self.buffer += read
        text, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(text)
        self.note(message)
        return message

    def note(self, message):
        method, values = message.get("method"), message.get("params", {})
        if method == "Runtime.consoleAPICalled":
            self.console.append(str([a.get("value", a.get("description")) for a in values["args"]]))
        elif method == "Runtime.exceptionThrown":
            details = values["exceptionDetails"]
            self.console.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded":
            self.console.append(values["entry"]["text"] + " " + values["entry"].get("url", ""))
        elif method == "Network.requestWillBeSent":
            self.addresses.append(values["request"]["url"])

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        while True:
            reply = self.receive(60)
            if reply is None:
                raise RuntimeError(f"the browser does not answer {method}")
            if reply.get("id") == self.number:
                if "error" in reply:
                    raise RuntimeError(f"{method}: {reply['error']['message']}")
                return reply["result"]

    def run(self, script):
        """The value of an expression; promises are waited for."""
        reply = self.call("Runtime.evaluate", expression=script, awaitPromise=True,
                          returnByValue=True, userGesture=True)
        if "exceptionDetails" in reply:
            details = reply["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return reply["result"].get("value")

    def wait(self, script, seconds=60):
        """Until an expression is true; returns whether it came to be."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.run(script):
                return True
            self.receive(0.05)
        return False

    def open(self, address):
        """Whether the page there came to be ready."""
        self.call("Page.navigate", url=address)
        return self.wait("document.documentElement?.className === 'ready'", 60)

    def size(self, width, height, dark=False, mobile=False, scale=1):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=scale, mobile=mobile)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def click(self, x, y):
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def press(self, key, code=None, text=None, number=0):
        for kind in ("keyDown", "keyUp"):
            values = {"type": kind, "key": key, "code": code or key, "windowsVirtualKeyCode": number}
            if text and kind == "keyDown":
                values["text"] = text
            self.call("Input.dispatchKeyEvent", **values)

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def layout_milliseconds(self):
        """Processor time in layout, in style, and in all since the page began."""
        found = {m["name"]: 1000 * m["value"] for m in self.call("Performance.getMetrics")["metrics"]}
        return {name: found[name] for name in ("LayoutDuration", "RecalcStyleDuration", "TaskDuration")}

    def close(self):
        self.process.terminate()
        self.process.wait(20)
