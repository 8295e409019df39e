// Gives a CodeMirror editor the page's theme and, of SQL, the catalog's names, which it asks the server for while
// somebody types.
export default {
  props: { editor: Number, completes: Boolean },
  data() {
    return { waiting: null, themed: null };
  },
  async mounted() {
    const CM = await import("nicegui-codemirror");
    const view = await this.view();
    if (this.completes) {
      const source = (context) => this.complete(context);
      const data = CM.EditorState.languageData.of(() => [{ autocomplete: source }]);
      view.dispatch({ effects: CM.StateEffect.appendConfig.of(data) });
    }
    this.themed = new MutationObserver(() => setTimeout(this.setTheme));
    this.themed.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    this.setTheme();
  },
  unmounted() {
    this.themed?.disconnect();
  },
  methods: {
    setTheme() {
      getElement(this.editor)?.setTheme(window.Quasar.Dark.isActive ? "vscodeDark" : "vscodeLight");
    },
    view() {
      const component = getElement(this.editor);
      return component.editor ? component.editor : component.editorPromise;
    },
    complete(context) {
      const word = context.matchBefore(/[\w$`.]+/);
      if (!word && !context.explicit) return null;
      const text = word ? word.text : "";
      const from = word ? word.from : context.pos;
      return new Promise((resolve) => {
        this.waiting?.resolve(null); // an answer to what was typed before
        this.waiting = { text, resolve };
        context.addEventListener("abort", () => resolve(null));
        this.$emit("ask", text, context.state.doc.sliceString(0, 20000));
      }).then((options) => {
        if (!options || !options.length) return null;
        const start = from + text.lastIndexOf(".") + 1;
        return { from: start, options, validFor: /^[\w$`]*$/ };
      });
    },
    answer(text, options) {
      if (this.waiting?.text !== text) return;
      this.waiting.resolve(options);
      this.waiting = null;
    },
  },
  template: `<span hidden></span>`,
};
