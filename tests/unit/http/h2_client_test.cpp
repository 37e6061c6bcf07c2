// SPDX-License-Identifier: Apache-2.0
// UnaryCall against nghttp2's own server, both sans-I/O in one thread.
#include "http/h2_client.hpp"

#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstring>

namespace mesh::http {
namespace {

using Progress = UnaryCall::Progress;

/// Answers each finished request with `headers`, `body` and `trailers`.
struct Server {
  Server() {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame*, const std::uint8_t* name, std::size_t name_length,
                      const std::uint8_t* value, std::size_t value_length, std::uint8_t, void* self) {
          static_cast<Server*>(self)->request.emplace_back(
              std::string(reinterpret_cast<const char*>(name), name_length),
              std::string(reinterpret_cast<const char*>(value), value_length));
          return 0;
        });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        callbacks,
        [](nghttp2_session*, std::uint8_t, std::int32_t, const std::uint8_t* data, std::size_t size, void* self) {
          static_cast<Server*>(self)->request_body.append(reinterpret_cast<const char*>(data), size);
          return 0;
        });
    nghttp2_session_callbacks_set_on_frame_recv_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* self) {
          const bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
          if (frame->hd.type <= NGHTTP2_HEADERS && end) static_cast<Server*>(self)->answer(frame->hd.stream_id);
          return 0;
        });
    nghttp2_session_server_new(&session, callbacks, this);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, nullptr, 0);
  }
  ~Server() { nghttp2_session_del(session); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  static std::vector<nghttp2_nv> fields(const Headers& headers) {
    std::vector<nghttp2_nv> made;
    for (const auto& [name, value] : headers) {
      made.push_back({reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
                      reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(), 0});
    }
    return made;
  }

  void answer(std::int32_t stream) {
    if (reset) {
      nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream, NGHTTP2_REFUSED_STREAM);
      return;
    }
    const nghttp2_data_provider provider{
        .source = {.ptr = nullptr},
        .read_callback = [](nghttp2_session* s, std::int32_t id, std::uint8_t* buffer, std::size_t length,
                            std::uint32_t* flags, nghttp2_data_source*, void* me) {
          Server& self = *static_cast<Server*>(me);
          const std::size_t count = std::min(length, self.body.size());
          std::memcpy(buffer, self.body.data(), count);
          if (self.endless) return static_cast<ssize_t>(count);
          self.body.erase(0, count);
          if (self.body.empty()) {
            *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
            const auto trailer = fields(self.trailers);
            nghttp2_submit_trailer(s, id, trailer.data(), trailer.size());
          }
          return static_cast<ssize_t>(count);
        }};
    const auto head = fields(headers);
    nghttp2_submit_response(session, stream, head.data(), head.size(), &provider);
  }

  nghttp2_session* session = nullptr;
  Headers request;
  std::string request_body;
  Headers headers = {{":status", "200"}, {"content-type", "application/grpc"}};
  std::string body = "hello";
  Headers trailers = {{"grpc-status", "0"}};
  bool reset = false;
  bool endless = false;
};

/// Carries bytes both ways, `step` at a time, until the call has an end or nobody says anything.
Progress converse(UnaryCall& call, Server& server, std::size_t step) {
  for (int turn = 0; turn < 100000; ++turn) {
    bool said = false;
    if (const auto out = call.output(); !out.empty()) {
      const std::size_t count = std::min(step, out.size());
      nghttp2_session_mem_recv(server.session, reinterpret_cast<const std::uint8_t*>(out.data()), count);
      call.sent(count);
      said = true;
    }
    const std::uint8_t* data = nullptr;
    const ssize_t size = nghttp2_session_mem_send(server.session, &data);
    for (ssize_t at = 0; at < size; at += static_cast<ssize_t>(step)) {
      const auto count = std::min(step, static_cast<std::size_t>(size - at));
      const Progress progress = call.feed(std::as_bytes(std::span(data + at, count)));
      if (progress != Progress::kMore) return progress;
      said = true;
    }
    if (!said) return Progress::kMore;
  }
  return Progress::kMore;
}

UnaryCall::Request request() {
  return {.authority = "shop", .path = "/p", .headers = {{"te", "trailers"}}, .body = "question"};
}

TEST(UnaryCall, carries_request_response_and_trailers_however_the_bytes_are_split) {
  for (const std::size_t step : {1, 7, 100, 100000}) {
    Server server;
    UnaryCall call(request(), 16384);
    ASSERT_EQ(converse(call, server, step), Progress::kDone) << call.error();
    EXPECT_EQ(call.status(), 200U);
    EXPECT_EQ(call.body(), "hello");
    ASSERT_NE(find_header(call.headers(), "grpc-status"), nullptr);
    EXPECT_EQ(server.request_body, "question");
    ASSERT_NE(find_header(server.request, ":authority"), nullptr);
    EXPECT_EQ(*find_header(server.request, ":authority"), "shop");
  }
}

TEST(UnaryCall, a_reset_stream_garbage_and_an_endless_body_fail) {
  Server resetting;
  resetting.reset = true;
  UnaryCall refused(request(), 16384);
  EXPECT_EQ(converse(refused, resetting, 1000), Progress::kFailed);
  EXPECT_EQ(refused.error(), "REFUSED_STREAM");

  UnaryCall confused(request(), 16384);
  const std::string_view http1 = "HTTP/1.1 400 Bad Request\r\n\r\n";
  EXPECT_EQ(confused.feed(std::as_bytes(std::span(http1))), Progress::kFailed);

  Server endless;
  endless.endless = true;
  endless.body = std::string(1000, 'x');
  UnaryCall flooded(request(), 16384);
  EXPECT_EQ(converse(flooded, endless, 1000), Progress::kFailed);
  EXPECT_LE(flooded.body().size(), 17000U);
}

}  // namespace
}  // namespace mesh::http
