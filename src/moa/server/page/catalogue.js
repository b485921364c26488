// What this server offers: its mixtures, its single models, and what its figures mean.

import { server } from "./server.js";

export const catalogue = {
  mixtures: [], // each with name, table, description, available, why_not
  models: [],
  default: "", // the name of the mixture that is chosen at first
  explained: "", // what the attribution's figures mean

  get isLoaded() {
    return this.mixtures.length > 0;
  },

  async load() {
    const { mixtures, models, default: first, explained } = await (await server.sendUntilAnswered("/mixtures")).json();
    Object.assign(this, { mixtures, models, default: first, explained });
  },

  /** The mixture of this name, as requests have it: moa/NAME. */
  mixture(name) {
    return this.mixtures.find((each) => `moa/${each.name}` === name);
  },
};
