// SPDX-License-Identifier: Apache-2.0
// Questions of clients to the responder of names: whatever is read as one must be answered within what the client
// takes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "names/message.hpp"
#include "names/zone.hpp"

namespace {

mesh::names::Zone make_zone() {
  mesh::model::Snapshot snapshot;
  for (const char* name : {"orders", "shop/cart"}) {
    auto service = std::make_shared<mesh::model::Service>();
    service->name = name;
    service->frontend.address = mesh::base::SocketAddress::parse("240.64.0.10:80").value();
    snapshot.services.push_back(std::move(service));
  }
  return {snapshot, "mesh", {}};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const mesh::names::Zone zone = make_zone();
  const auto query = mesh::names::parse_query(std::as_bytes(std::span(data, size)));
  if (!query) return 0;
  if (!query->name.empty() && !mesh::names::is_name(query->name)) std::abort();
  const auto answer = zone.answer(query->name, query->type);
  if (answer && mesh::names::encode(*query, *answer, query->udp_limit()).size() > query->udp_limit()) std::abort();
  return 0;
}
