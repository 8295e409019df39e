// A moment as the time passed since; the exact local time is its title. Helpers are in static/millpond.js.
export default {
  props: { ms: Number },
  computed: {
    text() {
      return window.millpond.ago(this.ms);
    },
    title() {
      return window.millpond.exact(this.ms);
    },
    iso() {
      return new Date(this.ms).toISOString();
    },
  },
  template: `<time :datetime="iso" :title="title">{{ text }}</time>`,
};
