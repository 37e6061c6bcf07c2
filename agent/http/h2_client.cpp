// SPDX-License-Identifier: Apache-2.0
#include "http/h2_client.hpp"

#include <nghttp2/nghttp2.h>

#include <charconv>

#include "base/error.hpp"

namespace mesh::http {

struct UnaryCall::State {
  Request request;
  std::size_t limit_bytes;
  nghttp2_session* session = nullptr;
  std::int32_t stream = -1;
  std::size_t body_sent = 0;
  std::string outgoing;
  std::size_t sent = 0;
  std::size_t received = 0;
  unsigned status = 0;
  Headers headers;
  std::string body;
  std::string error;
  bool closed = false;

  ~State() { nghttp2_session_del(session); }

  void collect_output() {
    while (true) {
      const std::uint8_t* data = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session, &data);
      if (size <= 0) break;
      outgoing.append(reinterpret_cast<const char*>(data), static_cast<std::size_t>(size));
    }
  }
};

namespace {

using State = UnaryCall::State;

nghttp2_nv field(const std::string& name, const std::string& value) {
  // nghttp2 copies; the flags that would make it keep the pointers are not set.
  return {reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NONE};
}

ssize_t read_body(nghttp2_session*, std::int32_t, std::uint8_t* buffer, std::size_t length, std::uint32_t* flags,
                  nghttp2_data_source*, void* user_data) {
  State& state = *static_cast<State*>(user_data);
  const std::size_t count = state.request.body.copy(reinterpret_cast<char*>(buffer), length, state.body_sent);
  state.body_sent += count;
  if (state.body_sent == state.request.body.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(count);
}

int on_header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_length,
              const std::uint8_t* value, std::size_t value_length, std::uint8_t, void* user_data) {
  State& state = *static_cast<State*>(user_data);
  if (frame->hd.stream_id != state.stream) return 0;
  const std::string_view key(reinterpret_cast<const char*>(name), name_length);
  const std::string_view text(reinterpret_cast<const char*>(value), value_length);
  if (key == ":status") {
    std::from_chars(text.data(), text.data() + text.size(), state.status);
  } else {
    state.headers.emplace_back(key, text);
  }
  return 0;
}

int on_data(nghttp2_session*, std::uint8_t, std::int32_t stream, const std::uint8_t* data, std::size_t length,
            void* user_data) {
  State& state = *static_cast<State*>(user_data);
  if (stream == state.stream) state.body.append(reinterpret_cast<const char*>(data), length);
  return 0;
}

int on_stream_close(nghttp2_session*, std::int32_t stream, std::uint32_t error_code, void* user_data) {
  State& state = *static_cast<State*>(user_data);
  if (stream != state.stream) return 0;
  state.closed = true;
  if (error_code != NGHTTP2_NO_ERROR) state.error = nghttp2_http2_strerror(error_code);
  return 0;
}

}  // namespace

UnaryCall::UnaryCall(Request request, std::size_t limit_bytes) : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.request = std::move(request);
  state.limit_bytes = limit_bytes;
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
  const int made = nghttp2_session_client_new(&state.session, callbacks, &state);
  nghttp2_session_callbacks_del(callbacks);
  MESH_ASSERT(made == 0);

  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<std::uint32_t>(limit_bytes)}};
  nghttp2_submit_settings(state.session, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  Headers all = {{":method", "POST"},
                 {":scheme", state.request.scheme},
                 {":authority", state.request.authority},
                 {":path", state.request.path}};
  all.insert(all.end(), state.request.headers.begin(), state.request.headers.end());
  std::vector<nghttp2_nv> fields;
  fields.reserve(all.size());
  for (const auto& [name, value] : all) fields.push_back(field(name, value));
  const nghttp2_data_provider provider{.source = {.ptr = nullptr}, .read_callback = read_body};
  state.stream = nghttp2_submit_request(state.session, nullptr, fields.data(), fields.size(), &provider, nullptr);
  if (state.stream < 0) state.error = nghttp2_strerror(state.stream);
  state.collect_output();
}

UnaryCall::~UnaryCall() = default;

std::span<const std::byte> UnaryCall::output() const {
  return std::as_bytes(std::span(state_->outgoing)).subspan(state_->sent);
}

void UnaryCall::sent(std::size_t count) {
  State& state = *state_;
  state.sent += count;
  if (state.sent < state.outgoing.size()) return;
  state.outgoing.clear();
  state.sent = 0;
}

UnaryCall::Progress UnaryCall::feed(std::span<const std::byte> bytes) {
  State& state = *state_;
  state.received += bytes.size();
  const ssize_t used =
      nghttp2_session_mem_recv(state.session, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  if (used < 0) state.error = nghttp2_strerror(static_cast<int>(used));
  if (state.closed && state.error.empty()) return Progress::kDone;
  if (state.error.empty() && state.received >= state.limit_bytes) {
    state.error = "response over " + std::to_string(state.limit_bytes) + " bytes";
  }
  state.collect_output();
  // After a protocol error nghttp2 has said GOAWAY by now, and wants to read no more.
  if (state.error.empty() && !nghttp2_session_want_read(state.session))
    state.error = "not HTTP/2, or ended by the peer";
  return state.error.empty() ? Progress::kMore : Progress::kFailed;
}

unsigned UnaryCall::status() const { return state_->status; }
const Headers& UnaryCall::headers() const { return state_->headers; }
const std::string& UnaryCall::body() const { return state_->body; }
const std::string& UnaryCall::error() const { return state_->error; }
bool UnaryCall::got_bytes() const { return state_->received > 0; }

}  // namespace mesh::http
