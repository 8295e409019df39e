// What a task prints, as it prints it. Text nodes only; beyond a million characters the oldest are let go.
const MOST = 1000000;
export default {
  props: { label: String, text: String },
  mounted() {
    this.parts = [];
    this.append(this.text);
  },
  methods: {
    append(text) {
      const place = this.$refs.text;
      const follows = place.scrollTop + place.clientHeight > place.scrollHeight - 40;
      if (text) this.parts.push(place.appendChild(document.createTextNode(text)));
      let length = this.parts.reduce((sum, node) => sum + node.length, 0);
      while (length > MOST && this.parts.length > 1) {
        const first = this.parts.shift();
        length -= first.length;
        first.remove();
      }
      if (follows) place.scrollTop = place.scrollHeight;
    },
  },
  template: `<pre ref="text" class="mp-log" tabindex="0" role="log" aria-live="off" :aria-label="label"></pre>`,
};
