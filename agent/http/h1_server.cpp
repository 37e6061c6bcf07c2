// SPDX-License-Identifier: Apache-2.0
#include "http/h1_server.hpp"

#include <fmt/format.h>

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <iterator>

namespace mesh::http {
namespace {

namespace beast_http = boost::beast::http;
using Parser = beast_http::request_parser<beast_http::string_body>;

unsigned status_for(const boost::beast::error_code& error) {
  if (error == beast_http::error::header_limit) return 431;
  if (error == beast_http::error::body_limit || error == beast_http::error::buffer_overflow) return 413;
  return 400;
}

std::string text(boost::beast::string_view view) { return {view.data(), view.size()}; }

}  // namespace

struct ServerSession::State {
  explicit State(ServerLimits server_limits) : limits(server_limits) { restart(); }
  void restart() {
    parser.emplace();
    parser->eager(true);
    parser->header_limit(limits.header_bytes);
    parser->body_limit(limits.body_bytes);
  }

  ServerLimits limits;
  std::string received;  ///< Not yet parsed.
  std::optional<Parser> parser;
  std::optional<unsigned> refusal;
};

ServerSession::ServerSession(ServerLimits limits) : state_(std::make_unique<State>(limits)) {}
ServerSession::~ServerSession() = default;
ServerSession::ServerSession(ServerSession&&) noexcept = default;
ServerSession& ServerSession::operator=(ServerSession&&) noexcept = default;

void ServerSession::feed(std::span<const std::byte> bytes) {
  State& state = *state_;
  if (state.refusal) return;
  if (state.received.size() + bytes.size() > state.limits.pipelined_bytes) {
    state.refusal = 413;
    return;
  }
  state.received.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

std::optional<Request> ServerSession::next() {
  State& state = *state_;
  if (state.refusal) return std::nullopt;
  std::size_t used = 0;
  while (used < state.received.size() && !state.parser->is_done()) {
    boost::beast::error_code error;
    const std::size_t parsed =
        state.parser->put(boost::asio::buffer(state.received.data() + used, state.received.size() - used), error);
    used += parsed;
    if (error == beast_http::error::need_more) break;
    if (error) {
      state.refusal = status_for(error);
      return std::nullopt;
    }
    if (parsed == 0) break;
  }
  state.received.erase(0, used);
  if (!state.parser->is_done()) {
    if (!state.parser->is_header_done() && state.received.size() > state.limits.header_bytes) state.refusal = 431;
    return std::nullopt;
  }
  auto message = state.parser->release();
  Request request;
  request.method = text(message.method_string());
  request.target = text(message.target());
  request.keep_alive = message.keep_alive();
  for (const auto& field : message) request.headers.emplace_back(text(field.name_string()), text(field.value()));
  request.body = std::move(message.body());
  state.restart();
  return request;
}

std::optional<unsigned> ServerSession::refusal() const { return state_->refusal; }

bool ServerSession::idle() const { return state_->received.empty() && !state_->parser->got_some(); }

std::string render(const Response& response, RenderOptions options) {
  std::string out = fmt::format("HTTP/1.1 {} {}\r\n", response.status, reason_phrase(response.status));
  const auto add = [&out](std::string_view name, std::string_view value) {
    fmt::format_to(std::back_inserter(out), "{}: {}\r\n", name, value.substr(0, value.find_first_of("\r\n")));
  };
  if (!response.content_type.empty()) add("Content-Type", response.content_type);
  for (const auto& [name, value] : response.headers) add(name, value);
  if (response.status != 204 && response.status != 304) add("Content-Length", std::to_string(response.body.size()));
  if (!options.keep_alive) add("Connection", "close");
  out += "\r\n";
  if (!options.head) out += response.body;
  return out;
}

}  // namespace mesh::http
