// Uploads files one after the other straight to the Files API: the browser streams, no page holds the bytes.
export default {
  props: { target: String, names: Array },
  emits: ["done"],
  data() {
    return { items: [], over: false, busy: false };
  },
  methods: {
    choose(event) {
      this.send([...event.target.files]);
      event.target.value = "";
    },
    drop(event) {
      this.over = false;
      this.send([...event.dataTransfer.files]);
    },
    async send(files) {
      if (this.busy || !files.length) return;
      const taken = files.filter((file) => this.names.includes(file.name)).map((file) => file.name);
      if (taken.length && !window.confirm("Replace " + taken.join(", ") + "?")) return;
      this.busy = true;
      this.items = files.map((file) => ({ file, name: file.name, percent: 0, state: "waiting", message: "" }));
      for (const item of this.items) await this.put(item);
      this.busy = false;
      if (this.items.every((item) => item.state === "done")) window.location.reload();
    },
    put(item) {
      return new Promise((resolve) => {
        const request = new XMLHttpRequest();
        item.state = "sending";
        request.open("PUT", this.target + encodeURIComponent(item.name) + "?overwrite=true");
        request.setRequestHeader("Content-Type", "application/octet-stream");
        request.upload.onprogress = (event) => (item.percent = Math.round((100 * event.loaded) / (event.total || 1)));
        request.onload = () => {
          item.state = request.status < 300 ? "done" : "failed";
          item.message = item.state === "failed" ? this.reason(request) : "";
          resolve();
        };
        request.onerror = () => {
          item.state = "failed";
          item.message = "The connection broke; try again.";
          resolve();
        };
        request.send(item.file);
      });
    },
    reason(request) {
      try {
        return JSON.parse(request.responseText).message;
      } catch {
        return "The server answered " + request.status + ".";
      }
    },
  },
  template: `
    <div class="mp-upload" :class="{ 'mp-over': over }" @dragover.prevent="over = true" @dragleave="over = false" @drop.prevent="drop">
      <label class="mp-button mp-primary"><i class="mp-icon" aria-hidden="true">upload</i><span>Upload files</span>
        <input type="file" multiple class="mp-hidden" :disabled="busy" @change="choose" /></label>
      <span class="mp-note">or drop them here</span>
      <ul v-if="items.length" aria-live="polite">
        <li v-for="item in items" :key="item.name">
          <span>{{ item.name }}</span>
          <progress v-if="item.state === 'sending'" :value="item.percent" max="100" :aria-label="item.name"></progress>
          <span class="mp-badge" :class="{ 'mp-good': item.state === 'done', 'mp-bad': item.state === 'failed' }">{{ item.state }}</span>
          <span v-if="item.message" class="mp-note">{{ item.message }}</span>
        </li>
      </ul>
    </div>`,
};
