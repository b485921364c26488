// A mixture that is being changed. Pure: no document, no server.

/** The fields of a mixture's table, in which agents can be switched `off`, and the table that they stand for. */
export class Draft {
  /** @param name as requests have it: moa/NAME, or a model's. */
  constructor(name, table) {
    this.name = name;
    this.fields = structuredClone({ aggregate: "synthesize", ...table });
    this.fields.layers ??= [];
    this.original = JSON.stringify(this.table());
  }

  get isChanged() {
    return JSON.stringify(this.table()) !== this.original;
  }

  /** The name of the table: the mixture's own, or, after a change, a valid one that ends in "-changed". */
  get tableName() {
    const name = this.name.split("/").pop();
    return this.isChanged ? `${name.replace(/^[^A-Za-z0-9]+|-changed$/g, "").replace(/[^A-Za-z0-9._-]/g, "-")}-changed` : name;
  }

  /** The table, without agents that are off or have no model, and without layers that are empty then. */
  table() {
    const { layers, aggregator, description, ...rest } = this.fields;
    const kept = layers.map((layer) => layer.filter((agent) => !agent.off && agent.model).map(agentTable)).filter((layer) => layer.length);
    const table = { ...rest, layers: kept };
    if (aggregator?.model) table.aggregator = agentTable(aggregator);
    if (table.min_proposals > 1) table.min_proposals = Math.min(table.min_proposals, ...kept.map((layer) => layer.length));
    if (!table.schedule) delete table.schedule;
    return table;
  }

  /** An agent to add beside another one: of the same model, or of the first that is known. */
  agentLike(agent, models) {
    return { model: agent?.model ?? this.fields.aggregator?.model ?? models[0] ?? "" };
  }

  /** Choose how the proposals become the answer; every way but "central" needs an aggregator. */
  setAggregate(way, models) {
    this.fields.aggregate = way;
    if (way !== "synthesize") for (const field of ["analysis", "window"]) delete this.fields[field];
    if (way !== "central") this.fields.aggregator ??= this.agentLike(this.fields.layers[0]?.[0], models);
  }

  /** Choose the schedule's kind; a quorum leaves out one agent at first. */
  setSchedule(kind) {
    const size = this.fields.layers[0]?.length ?? 1;
    const schedules = { barrier: undefined, quorum: { kind, usable: Math.max(1, size - 1) }, staircase: { kind } };
    this.fields.schedule = schedules[kind];
  }

  /** Set how many tokens a staircase reads at a time, from a text like "32, 128"; none leaves it to the server. */
  setChunks(text) {
    const chunks = text.split(/\D+/).filter(Boolean).map(Number);
    if (chunks.length) this.fields.schedule.chunks = chunks;
    else delete this.fields.schedule.chunks;
  }
}

function agentTable({ off, ...fields }) {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== "" && value !== null && value !== undefined));
}
