// Lets a program that knows nothing of access tokens send one with each request: node --import bearer.mjs PROGRAM
import { getGlobalDispatcher, setGlobalDispatcher } from "undici";

const authorization = `Bearer ${process.env.ACCESS_TOKEN}`;
const withToken = (dispatch) => (options, handler) => {
  const headers = new Headers(options.headers);
  headers.set("authorization", authorization);
  return dispatch({ ...options, headers: Object.fromEntries(headers) }, handler);
};

setGlobalDispatcher(getGlobalDispatcher().compose(withToken));
