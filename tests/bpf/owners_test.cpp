// SPDX-License-Identifier: Apache-2.0
// The agent's view of owner records.
#include "datapath/owners.hpp"

#include <cstdint>
#include <limits>

#include "tests/bpf/mesh_fixture.hpp"

namespace mesh::test {
namespace {

constexpr std::uint64_t kLowest = 1;
constexpr std::uint64_t kCountedDown = std::numeric_limits<std::uint64_t>::max() - 4;

using OwnersTest = MeshTest;

TEST_F(OwnersTest, records_of_all_cookies_that_the_kernel_gives_out_are_seen) {
  const auto memory = datapath::OwnerMemory::map(mesh_->maps(), datapath::Access::kWrite);
  ASSERT_TRUE(memory) << memory.error().to_string();
  for (const std::uint64_t cookie : {kLowest, kCountedDown}) {
    mesh_owner record{};
    record.cookie = cookie;
    record.service_id = 7;
    ASSERT_TRUE(memory->put(record));
    ASSERT_TRUE(memory->find(cookie)) << cookie;
    EXPECT_EQ(memory->find(cookie)->service_id, 7U);
  }
  EXPECT_EQ(owners(), 2U) << owner_texts();
  EXPECT_TRUE(memory->erase(kLowest));
  EXPECT_TRUE(memory->erase(kCountedDown));
  EXPECT_EQ(owners(), 0U) << owner_texts();
}

TEST_F(OwnersTest, a_record_that_is_being_written_is_not_seen) {
  const auto memory = datapath::OwnerMemory::map(mesh_->maps(), datapath::Access::kWrite);
  ASSERT_TRUE(memory) << memory.error().to_string();
  for (const std::uint64_t cookie : {kLowest, kCountedDown}) {
    mesh_owner record{};
    record.cookie = cookie ^ MESH_OWNER_BUSY;
    ASSERT_TRUE(memory->put(record));
  }
  EXPECT_EQ(owners(), 0U) << owner_texts();
}

}  // namespace
}  // namespace mesh::test
