"""A group member in a thread of its own, for clients whose consumer is polled."""
import queue
import threading


class Member:
    """A subclass's run() polls until self.stopping, and calls self.do_tasks() between polls."""

    def __init__(self, client, request):
        self.client, self.request, self.name = client, request, request["member"]
        self.stopping = threading.Event()
        self.tasks = queue.Queue()
        self.error = None
        self.thread = threading.Thread(target=self.guarded, daemon=True)
        self.thread.start()

    def guarded(self):
        try:
            self.run()
        except Exception as e:
            self.error = e
            self.client.say(event="failed", member=self.name, error=f"{type(e).__name__}: {e}")
            while not self.tasks.empty():
                self.tasks.get()[1].set()

    def owned(self, partitions):
        self.client.say(event="owned", member=self.name, partitions=sorted(partitions))

    def values(self, values):
        if values:
            self.client.say(event="values", member=self.name, values=values)

    def do_tasks(self):
        while not self.tasks.empty():
            task, done = self.tasks.get()
            try:
                task()
            finally:
                done.set()

    def call(self, task):
        """Runs task in the member's thread, between two polls."""
        done = threading.Event()
        self.tasks.put((task, done))
        if not done.wait(30):
            raise TimeoutError("the member does not poll")
        if self.error:
            raise self.error

    def leave(self):
        self.stopping.set()
        self.thread.join(30)
        if self.thread.is_alive():
            raise TimeoutError("the member does not close")
        if self.error:
            raise self.error
