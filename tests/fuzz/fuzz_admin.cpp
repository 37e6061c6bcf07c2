// SPDX-License-Identifier: Apache-2.0
// The admin API as a stranger meets it: bytes become requests, requests get answers. The first byte chooses what the
// caller may do and where the stream is cut. Held: every request is answered once, JSON answers are JSON documents, and
// nobody but root changes anything. The same bytes are read as every wire document, too.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "app/admin_routes.hpp"
#include "base/log.hpp"
#include "http/h1_server.hpp"
#include "tests/support/fake_admin_backend.hpp"

namespace {

using namespace mesh;

constexpr app::Access kAccesses[] = {app::Access::kNone, app::Access::kObserve, app::Access::kRead,
                                     app::Access::kChange};

void check_answer(const app::AdminResponse& response) {
  MESH_ASSERT(response.status >= 200 && response.status < 600);
  if (response.content_type == "application/json") MESH_ASSERT(api::detail::parse(response.body));
  if (response.status >= 400 && response.content_type == "application/json") {
    const auto error = api::decode<api::ErrorView>(response.body);
    MESH_ASSERT(error && !error->message.empty());
  }
}

template <typename... Documents>
void decode_as(std::string_view text) {
  const auto one = [&]<typename T>() {
    const auto value = api::decode<T>(text);
    if (!value) return;
    const std::string written = api::encode(*value);
    const auto again = api::decode<T>(written);
    MESH_ASSERT(again && api::encode(*again) == written);
  };
  (one.template operator()<Documents>(), ...);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  base::log::set_level(base::log::Level::kError);  // refused changes are warnings
  const app::Caller caller{.access = kAccesses[data[0] & 3U], .uid = 1000, .pid = 1};
  const std::size_t step = 1 + (data[0] >> 2U);
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(1);

  test::FakeAdminBackend backend;
  http::ServerSession session({.header_bytes = 8192, .body_bytes = 65536, .pipelined_bytes = 73728});
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    session.feed(bytes.subspan(at, std::min(step, bytes.size() - at)));
    while (const auto request = session.next()) {
      unsigned answers = 0;
      app::answer(backend, caller, {request->method, request->target, request->body},
                  [&](const app::AdminResponse& response) {
                    ++answers;
                    check_answer(response);
                  });
      MESH_ASSERT(answers == 1);
    }
  }
  MESH_ASSERT(caller.access == app::Access::kChange || backend.changes.empty());

  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  decode_as<api::Status, api::ServiceList, api::EndpointList, api::ExplainView, api::BpfDump, api::BpfDiff,
            api::PauseRequest, api::ConfigView, api::CheckReport, api::ErrorView>(text);
  return 0;
}
