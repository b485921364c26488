// Requests to the server: the API key, the server's own error messages, and retries while it is unreachable.
//
// This module draws nothing. page.js sets the three hooks that reach the user.

/** A request failed with this HTTP status; status 0 means that the server could not be reached. */
export class RequestFailed extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Whether the same request may succeed later. */
  get isTemporary() {
    return this.status === 0 || this.status >= 500;
  }
}

/** Resolves after so many milliseconds. */
export const delay = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export const server = {
  key: "",

  /** Hook: prompts for an API key and sets `key`; resolves to whether there is one now. */
  promptForKey: async () => false,
  /** Hook: a request failed and is retried; `message` is the reason. */
  onRetry(message) {},
  /** Hook: the retry that was reported with `message` has succeeded. */
  onRecovery(message) {},

  /** Send a request; `path` begins with a slash and is relative to the page, which a proxy may serve below a prefix. */
  async send(path, { method = "GET", body, signal, headers = {} } = {}) {
    for (;;) {
      const allHeaders = { ...headers };
      if (this.key) allHeaders.authorization = `Bearer ${this.key}`;
      if (body !== undefined) allHeaders["content-type"] = "application/json";
      const options = { method, headers: allHeaders, body: body && JSON.stringify(body), signal };
      const response = await fetch(`.${path}`, options).catch((error) => {
        throw error.name === "AbortError" ? error : new RequestFailed(0, "The server cannot be reached.");
      });
      if (response.ok) return response;
      if (response.status === 401 && (await this.promptForKey())) continue;
      throw new RequestFailed(response.status, await errorMessage(response));
    }
  },

  /** Send a request and read its JSON; null for a response without content. */
  async json(path, options) {
    const response = await this.send(path, options);
    return response.status === 204 ? null : response.json();
  },

  /** Send a request, and send it again while the server is unreachable or fails, at most 5 s apart. */
  async sendUntilAnswered(path, options = {}) {
    let reported = "";
    for (let pause = 300; ; pause = Math.min(pause * 2, 5000)) {
      try {
        const response = await this.send(path, options);
        if (reported) this.onRecovery(reported);
        return response;
      } catch (error) {
        if (!error.isTemporary) throw error;
        reported = `${error.message} Retrying.`;
        this.onRetry(reported);
      }
      await delay(pause);
      options.signal?.throwIfAborted();
    }
  },
};

/** The message of an error response, with its causes, one a line. */
async function errorMessage(response) {
  try {
    const { error } = await response.json();
    return [error.message, ...(error.causes ?? [])].join("\n");
  } catch {
    return `${response.status} ${response.statusText}`; // a proxy between here and the server answered
  }
}
