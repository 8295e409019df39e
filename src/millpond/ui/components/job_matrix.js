// Runs by tasks, one small square each. All squares of a colour are one path, so ten thousand of them are a handful of
// elements; one link lies over the square that is pointed at or was walked to with the arrow keys.
const SIZE = 16, PITCH = 18, BARS = 44;
export default {
  props: { runs: Array, tasks: Array, cells: Array, states: Array },
  data() {
    return { column: 0, row: 0 };
  },
  computed: {
    width() {
      return this.runs.length * PITCH;
    },
    height() {
      return BARS + this.tasks.length * PITCH;
    },
    paths() {
      const paths = {};
      this.cells.forEach((row, r) => {
        for (let c = 0; c < row.length; c++) {
          const state = this.states[row.charCodeAt(c) - 65];
          if (!state) continue;
          const square = `M${c * PITCH + 1} ${BARS + r * PITCH + 1}h${SIZE}v${SIZE}h-${SIZE}z`;
          paths[state[1]] = (paths[state[1]] || "") + square;
        }
      });
      return paths;
    },
    run() {
      return this.runs[this.column];
    },
    state() {
      return this.states[this.cells[this.row]?.charCodeAt(this.column) - 65];
    },
    href() {
      return this.run.h + (this.state ? "/tasks/" + encodeURIComponent(this.tasks[this.row]) : "");
    },
    told() {
      return this.tasks[this.row] + ": " + (this.state ? this.state[0] : "not in this run") + ", " + window.millpond.ago(this.run.w);
    },
  },
  mounted() {
    this.column = this.runs.length - 1;
    this.$refs.frame.scrollLeft = this.$refs.frame.scrollWidth;
  },
  methods: {
    bar: (run) => Math.max(3, run.d * (BARS - 8)),
    title: (run) => run.s + ", " + window.millpond.exact(run.w),
    point(event) {
      const place = this.$refs.squares.getBoundingClientRect();
      const row = Math.floor((event.clientY - place.top - BARS) / PITCH);
      if (row < 0 || row >= this.tasks.length) return;
      this.row = row;
      this.column = Math.min(this.runs.length - 1, Math.max(0, Math.floor((event.clientX - place.left) / PITCH)));
    },
    walk(event) {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      this.column = Math.min(this.runs.length - 1, Math.max(0, this.column + step[0]));
      this.row = Math.min(this.tasks.length - 1, Math.max(0, this.row + step[1]));
      this.$nextTick(() => this.$refs.here.scrollIntoView({ block: "nearest", inline: "nearest" }));
    },
  },
  template: `
    <div>
      <div class="mp-matrix" ref="frame" role="region" aria-label="Runs by tasks" tabindex="0">
        <ul :style="{ paddingTop: '${BARS}px' }"><li v-for="(task, r) in tasks" :key="task" :title="task" :class="{ 'mp-here': r === row }">{{ task }}</li></ul>
        <svg ref="squares" :width="width" :height="height" @mousemove="point" @keydown="walk" role="group" aria-label="Runs, the newest to the right">
          <a v-for="(run, c) in runs" :key="c" :href="run.h" :aria-label="title(run)" :class="'mp-state-' + run.t" tabindex="-1"><title>{{ title(run) }}</title>
            <rect :x="c * 18 + 1" y="0" width="16" height="40" fill="transparent" />
            <rect :x="c * 18 + 4" :y="40 - bar(run)" width="10" :height="bar(run)" rx="2" class="mp-graph-dot" /></a>
          <path v-for="(path, tone) in paths" :key="tone" :d="path" :class="'mp-state-' + tone" class="mp-graph-dot" />
          <a :href="href" :aria-label="told" class="mp-matrix-here" ref="here"><rect :x="column * 18 + 1" :y="44 + row * 18 + 1" width="16" height="16" rx="2" /></a>
        </svg>
      </div>
      <p class="mp-note" role="status">{{ told }}</p>
    </div>`,
};
