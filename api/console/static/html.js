// What all views are written with: components, hooks, and markup as tagged templates.
// Text in a template is always text: no view sets HTML.

import htm from "./vendor/htm.js";
import { h } from "./vendor/preact.js";

export { createContext, Fragment, render } from "./vendor/preact.js";
export {
  useCallback,
  useContext,
  useEffect,
  useId,
  useMemo,
  useRef,
  useState,
} from "./vendor/hooks.js";
export const html = htm.bind(h);
