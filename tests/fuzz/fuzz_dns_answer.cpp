// SPDX-License-Identifier: Apache-2.0
// What a resolver may send. The first byte chooses the type that was asked for.
#include <cstdint>
#include <span>

#include "discovery/dns_answer.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mesh;
  if (size == 0) return 0;
  constexpr discovery::DnsType kTypes[] = {discovery::DnsType::kA, discovery::DnsType::kAaaa, discovery::DnsType::kSrv};
  const discovery::DnsQuestion question{"_http._tcp.orders.example", kTypes[data[0] % 3]};
  const auto answer = discovery::parse_dns_answer({data + 1, size - 1}, question);
  if (!answer) {
    MESH_ASSERT(!answer.error().message.empty());
    return 0;
  }
  MESH_ASSERT(answer->records.size() <= discovery::kMaxDnsRecords);
  MESH_ASSERT(question.type == discovery::DnsType::kSrv || answer->additional.empty());
  for (const discovery::DnsRecord& record : answer->records) MESH_ASSERT(record.target.size() <= 1024);
  return 0;
}
