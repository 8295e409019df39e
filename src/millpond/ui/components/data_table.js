// A table drawn from values alone: all text goes through text nodes, all links come from the server's own addresses.
export default {
  props: { label: String, columns: Array, rows: Array },
  emits: ["act"],
  data() {
    return { busy: false };
  },
  methods: {
    act(row) {
      this.busy = true; // until the server has answered, so that nothing is done twice
      setTimeout(() => (this.busy = false), 2000);
      this.$emit("act", row);
    },
    ago: (ms) => window.millpond.ago(ms),
    exact: (ms) => window.millpond.exact(ms),
    iso: (ms) => new Date(ms).toISOString(),
  },
  template: `
    <div class="mp-table-frame" role="region" :aria-label="label" tabindex="0">
      <table class="mp-table">
        <thead>
          <tr><th v-for="(column, i) in columns" :key="i" scope="col" :class="column.classes">{{ column.label }}</th></tr>
        </thead>
        <tbody>
          <tr v-for="(row, r) in rows" :key="r">
            <td v-for="(cell, i) in row" :key="i" :class="columns[i].classes">
              <span class="mp-cell">
                <i v-if="cell.i" class="mp-icon" aria-hidden="true">{{ cell.i }}</i>
                <time v-if="cell.w" :datetime="iso(cell.w)" :title="exact(cell.w)">{{ ago(cell.w) }}</time>
                <a v-else-if="cell.h" class="mp-link" :class="{ 'mp-mono': cell.m }" :href="cell.h" :title="cell.x">{{ cell.t }}</a>
                <code v-else-if="cell.m" :title="cell.x">{{ cell.t }}</code>
                <span v-else-if="cell.t" :title="cell.x || (columns[i].classes.includes('mp-short') ? cell.t : null)">{{ cell.t }}</span>
                <span v-if="cell.q" class="mp-squares">
                  <a v-for="(square, q) in cell.q" :key="q" :class="'mp-state-' + square[0]" :href="square[2]"
                    :title="square[1] + ', ' + ago(square[3])" :aria-label="square[1] + ', ' + ago(square[3])"></a>
                </span>
                <button v-if="cell.a" type="button" class="mp-button mp-quiet" :aria-label="cell.n" :disabled="busy"
                  @click="act(r)"><i class="mp-icon" aria-hidden="true">play_arrow</i><span>{{ cell.a }}</span></button>
                <span v-for="(badge, b) in cell.b || []" :key="b" class="mp-badge" :class="'mp-' + badge[1]">{{ badge[0] }}</span>
              </span>
              <span v-if="cell.s" class="mp-note">{{ cell.s }}</span>
            </td>
          </tr>
        </tbody>
      </table>
    </div>`,
};
