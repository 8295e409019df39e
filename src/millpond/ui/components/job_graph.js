// Tasks and what each depends on, as boxes and lines. A node is a link: {x, y, l label, n note, t tone, h address, x title};
// an edge is [from, to, outcome] by places in `nodes`. Many tasks are drawn as small squares without texts.
export default {
  props: { label: String, nodes: Array, edges: Array, width: Number, height: Number, box: Array },
  methods: {
    line([from, to]) {
      const [w, h] = this.box;
      const x1 = this.nodes[from].x + w, y1 = this.nodes[from].y + h / 2;
      const x2 = this.nodes[to].x, y2 = this.nodes[to].y + h / 2;
      const bend = Math.max(12, (x2 - x1) / 2);
      return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
    },
    middle([from, to]) {
      const [w, h] = this.box;
      return [(this.nodes[from].x + w + this.nodes[to].x) / 2, (this.nodes[from].y + this.nodes[to].y + h) / 2 - 3];
    },
  },
  template: `
    <div class="mp-graph" role="region" :aria-label="label" tabindex="0">
      <svg :width="width" :height="height" :viewBox="'0 0 ' + width + ' ' + height" role="group" :aria-label="label">
        <path :d="edges.map(line).join('')" class="mp-graph-line" :class="{ 'mp-graph-many': !nodes[0]?.l }" />
        <template v-for="(edge, i) in edges" :key="'t' + i">
          <text v-if="edge[2]" :x="middle(edge)[0]" :y="middle(edge)[1]" text-anchor="middle" class="mp-graph-note">{{ edge[2] }}</text>
        </template>
        <a v-for="(node, i) in nodes" :key="i" :href="node.h" :aria-label="node.s" :class="'mp-state-' + node.t">
          <title>{{ node.s }}</title>
          <rect :x="node.x" :y="node.y" :width="box[0]" :height="box[1]" :rx="node.l ? 7 : 3" :class="node.l ? 'mp-graph-box' : 'mp-graph-dot'" />
          <template v-if="node.l">
            <rect :x="node.x" :y="node.y + 8" width="4" :height="box[1] - 16" rx="2" class="mp-graph-dot" />
            <text :x="node.x + 14" :y="node.y + 19" class="mp-graph-name">{{ node.l }}</text>
            <text :x="node.x + 14" :y="node.y + 35" class="mp-graph-note">{{ node.n }}</text>
          </template>
        </a>
      </svg>
    </div>`,
};
