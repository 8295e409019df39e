// The search field of the top bar: a combobox (WAI-ARIA) whose answers come from the server as values.
export default {
  props: { query: String },
  data() {
    return { text: this.query || "", results: [], answered: null, active: -1, open: false, timer: null };
  },
  computed: {
    shown() {
      return this.open && this.text.trim().length > 1 && this.answered !== null;
    },
  },
  methods: {
    typed() {
      this.active = -1;
      this.open = true;
      clearTimeout(this.timer);
      const text = this.text.trim();
      if (text.length < 2) {
        this.answered = null;
        return;
      }
      this.timer = setTimeout(() => this.$emit("ask", text), 140);
    },
    answer(text, results) {
      if (text !== this.text.trim()) return; // an answer to what was typed before
      this.results = results;
      this.answered = text;
      this.active = -1;
    },
    move(step) {
      if (!this.shown || !this.results.length) return;
      const count = this.results.length;
      this.active = (this.active + step + count + (this.active < 0 && step < 0 ? 1 : 0)) % count;
      this.$nextTick(() => this.$el.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" }));
    },
    go() {
      if (this.shown && this.active >= 0) {
        window.location.assign(this.results[this.active].href);
      } else if (this.text.trim()) {
        window.location.assign("/search?q=" + encodeURIComponent(this.text.trim()));
      }
    },
    close() {
      this.open = false;
    },
    left(event) {
      if (!this.$el.contains(event.relatedTarget)) this.close();
    },
  },
  template: `
    <div class="mp-search" role="search" @focusout="left">
      <i class="mp-icon" aria-hidden="true">search</i>
      <input type="search" id="mp-search-input" v-model="text" role="combobox" aria-label="Search tables, models, experiments and endpoints"
        placeholder="Search tables, columns, tags, models, jobs" autocomplete="off" spellcheck="false"
        aria-controls="mp-search-list" :aria-expanded="shown ? 'true' : 'false'" aria-autocomplete="list"
        :aria-activedescendant="active >= 0 ? 'mp-search-' + active : null"
        @input="typed" @focus="open = true" @keydown.down.prevent="move(1)" @keydown.up.prevent="move(-1)"
        @keydown.enter.prevent="go" @keydown.esc="close" />
      <kbd aria-hidden="true">/</kbd>
      <div v-show="shown" class="mp-search-pop">
        <ul id="mp-search-list" role="listbox" aria-label="Search results">
          <li v-for="(hit, i) in results" :key="i" :id="'mp-search-' + i" role="option" :aria-selected="i === active ? 'true' : 'false'">
            <a :href="hit.href" tabindex="-1"><i class="mp-icon" aria-hidden="true">{{ hit.symbol }}</i>
              <span class="mp-search-name">{{ hit.name }}</span><span v-if="hit.mark" :class="'mp-badge ' + hit.tone">{{ hit.mark }}</span><span class="mp-note">{{ hit.kind }}</span></a>
          </li>
        </ul>
        <p v-if="!results.length" class="mp-note" role="status">Nothing that you may see holds this.</p>
      </div>
    </div>`,
};
