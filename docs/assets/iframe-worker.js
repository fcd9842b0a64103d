// Search in pages opened from the disk: browsers start no workers there, so the worker's script
// runs in a hidden frame instead. Served pages use the browser's own workers.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(address) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => setTimeout(() => this.onmessage?.({ data }));
      this.loaded = new Promise((resolve, reject) => {
        const script = inside.document.createElement("script");
        script.src = address;
        script.onload = resolve;
        script.onerror = reject;
        inside.document.body.append(script);
      });
      this.loaded.catch((event) => this.onerror?.(event));
    }

    postMessage(data) {
      this.loaded.then(() => this.frame.contentWindow?.onmessage?.({ data }), () => {});
    }

    terminate() {
      this.frame.remove();
    }
  };
}
