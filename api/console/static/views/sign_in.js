// Signing in: at the identity provider, or with a token that the person has.

import { onSignIn } from "../api.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { findProvider, onAnswer, prepare, redeem } from "../sign_in.js";

// Opens when the API asks for a token; all requests under way then wait for one.
export function SignIn() {
  const dialog = useRef(null);
  const waiting = useRef(null);
  const [reason, setReason] = useState(null); // None was given yet.
  useEffect(() => {
    onSignIn((why) => {
      setReason(why);
      if (!waiting.current) {
        let give;
        const promise = new Promise((resolve) => {
          give = resolve;
        });
        waiting.current = { promise, give };
        dialog.current.showModal();
      }
      return waiting.current.promise;
    });
  }, []);
  const give = (tokens) => {
    if (!waiting.current) return;
    waiting.current.give(tokens);
    waiting.current = null;
    dialog.current.close();
  };
  return html`<dialog ref=${dialog} aria-labelledby="sign-in" onCancel=${(event) => event.preventDefault()}>
    <h2 id="sign-in">Sign in</h2>
    ${reason && html`<p class="notice warn" role="alert">${reason} What you have typed is still there.</p>`}
    ${reason !== null && html`<${AtProvider} give=${give} />`}
    <${ByToken} give=${give} />
  </dialog>`;
}

// Signing in at the identity provider, if the service has one.
function AtProvider({ give }) {
  const [provider, setProvider] = useState(null);
  const [problem, setProblem] = useState("");
  const current = useRef(null);
  const latest = useRef(give);
  latest.current = give;
  useEffect(() => {
    const listening = onAnswer(
      () => current.current,
      async (request, answer) => {
        current.current = null; // Each answer is to a request of its own.
        const next = await prepare(request.provider);
        try {
          latest.current(await redeem(request, answer));
          setProblem("");
        } catch (error) {
          setProblem(error.message);
        }
        current.current = next;
      },
    );
    findProvider()
      .then(async (found) => {
        // A page that others on the network can read can keep no secret: browsers give it no hashes.
        if (found && !isSecureContext) throw new Error("Signing in takes HTTPS, but for localhost.");
        if (found) current.current = await prepare(found);
        setProvider(found);
      })
      .catch((error) => setProblem(error.message));
    return listening;
  }, []);
  const open = () => {
    setProblem("");
    if (current.current && !window.open(current.current.address, "_blank", "popup,width=500,height=700")) {
      setProblem("The browser has blocked the window in which you sign in: allow it for this page.");
    }
  };
  return html`
    ${problem && html`<p class="notice bad" role="alert">${problem}</p>`}
    ${provider && html`<p><button type="button" class="primary" onClick=${open}>Sign in at ${hostOf(provider.issuer)}</button></p>`}
  `;
}

function hostOf(address) {
  return new URL(address).host;
}

function ByToken({ give }) {
  const submit = (event) => {
    event.preventDefault();
    const field = event.target.elements.token;
    give({ token: field.value.trim(), refresh_token: "" });
    field.value = "";
  };
  return html`<form onSubmit=${submit}>
    <label>Token <input name="token" type="password" required autocomplete="off" spellcheck="false" /></label>
    <p class="small muted">
      A bearer token (JWT) of the API. It stays in the memory of this page, and is forgotten when the page is closed or
      loaded again.
    </p>
    <button>Use this token</button>
  </form>`;
}
