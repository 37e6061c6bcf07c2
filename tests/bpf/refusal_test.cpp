// SPDX-License-Identifier: Apache-2.0
// A kernel that has everything and whose verifier refuses a program all the same.
#include <bpf/bpf.h>
#include <elf.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string_view>

#include "datapath/owners.hpp"
#include "tests/bpf/mesh_fixture.hpp"

namespace mesh::test {
namespace {

/// The image with the end of a program taken away: no verifier takes that.
std::vector<std::byte> without_exit(std::string_view program) {
  const auto image = datapath::embedded_image();
  std::vector<std::byte> bytes(image.begin(), image.end());
  const auto read = [&]<typename T>(T& value, std::size_t offset) {
    std::memcpy(&value, bytes.data() + offset, sizeof(value));
  };
  Elf64_Ehdr header{};
  read(header, 0);
  const auto section = [&](std::size_t index) {
    Elf64_Shdr entry{};
    read(entry, header.e_shoff + index * sizeof(entry));
    return entry;
  };
  for (std::size_t i = 0; i < header.e_shnum; ++i) {
    const Elf64_Shdr table = section(i);
    if (table.sh_type != SHT_SYMTAB) continue;
    const Elf64_Shdr names = section(table.sh_link);
    for (std::size_t offset = 0; offset < table.sh_size; offset += sizeof(Elf64_Sym)) {
      Elf64_Sym symbol{};
      read(symbol, table.sh_offset + offset);
      if (program != reinterpret_cast<const char*>(bytes.data() + names.sh_offset + symbol.st_name)) continue;
      constexpr std::array<std::byte, 8> kMove{std::byte{0xbf}};  // r0 = r0, where exit or a jump was
      const std::size_t end = section(symbol.st_shndx).sh_offset + symbol.st_value + symbol.st_size;
      std::ranges::copy(kMove, bytes.begin() + static_cast<std::ptrdiff_t>(end - kMove.size()));
      return bytes;
    }
  }
  ADD_FAILURE() << "no program " << program;
  return bytes;
}

class RefusalTest : public MeshTest {
 protected:
  void SetUp() override {
    if (const std::string why = Sandbox::unavailable(); !why.empty()) GTEST_SKIP() << "SKIPPED: " << why;
    sandbox_ = std::make_unique<Sandbox>();
  }
  void open_without(std::string_view program) {
    image_ = without_exit(program);
    open([&](datapath::DatapathOptions& options) { options.image = image_; });
  }
  std::vector<std::string> refused() const {
    std::vector<std::string> names;
    for (const auto& refusal : mesh_->features().refused) {
      names.push_back(refusal.feature);
      EXPECT_NE(refusal.why.find("last insn is not an exit"), std::string::npos) << refusal.why;
    }
    return names;
  }

  std::vector<std::byte> image_;
};

using Names = std::vector<std::string>;

TEST_F(RefusalTest, without_the_kill_programs_sock_diag_resets) {
  open_without("mesh_kill_udp");
  ASSERT_TRUE(mesh_);
  const bool has_them = datapath::probe_kernel_features(datapath::embedded_image()).kill;  // since Linux 6.5
  EXPECT_EQ(refused(), has_them ? Names{"kill"} : Names{});
  EXPECT_FALSE(mesh_->features().kill);
  EXPECT_TRUE(mesh_->features().explain);

  const Server server = tcp_server();
  tables_->add_service(at("240.0.0.1:80"), IPPROTO_TCP, {server.address}, {.flags = MESH_RANGE_FEEDBACK});
  const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
  ASSERT_EQ(connect_to(client, at("240.0.0.1:80")), 0);
  std::vector<mesh_owner> records;
  datapath::OwnerMemory::map(mesh_->maps(), datapath::Access::kRead)->for_each([&](const mesh_owner& record) {
    records.push_back(record);
  });
  const auto killer = mesh_->make_killer();
  ASSERT_TRUE(killer);
  EXPECT_FALSE(killer->uses_iterators());
  EXPECT_EQ(killer->kill(records).count(datapath::KillOutcome::kKilled), 1U);
}

TEST_F(RefusalTest, without_the_tracing_programs_connections_are_balanced_and_the_books_kept) {
  open_without("mesh_error");
  ASSERT_TRUE(mesh_);
  EXPECT_EQ(refused(), Names{"tracing"});
  EXPECT_FALSE(mesh_->features().tracing);

  const Server server = tcp_server();
  const auto service =
      tables_->add_service(at("240.0.0.1:80"), IPPROTO_TCP, {server.address}, {.flags = MESH_RANGE_FEEDBACK});
  {
    const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
    ASSERT_EQ(connect_to(client, at("240.0.0.1:80")), 0);
    EXPECT_EQ(peer_of(client), at("240.0.0.1:80"));
  }
  EXPECT_EQ(opened(tables_->backends_of(service).front()), 1U);
  EXPECT_EQ(owners(), 0U);
}

TEST_F(RefusalTest, without_the_tracing_programs_an_error_that_nobody_fetched_is_seen_at_close) {
  open_without("mesh_error");
  ASSERT_TRUE(mesh_);
  if (!mesh_->features().sees_sockets()) GTEST_SKIP() << "SKIPPED: this kernel doesn't show a socket's own counters";
  const Server server = tcp_server();
  const auto service =
      tables_->add_service(at("240.0.0.1:80"), IPPROTO_TCP, {server.address}, {.flags = MESH_RANGE_FEEDBACK});
  {
    const base::Fd client = open_socket(AF_INET, SOCK_STREAM);
    ASSERT_EQ(connect_to(client, at("240.0.0.1:80")), 0);
    {
      const base::Fd peer(::accept4(server.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
      const linger at_once{1, 0};
      ASSERT_EQ(::setsockopt(peer.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
    }
    pollfd failed{client.get(), 0, 0};
    ASSERT_EQ(::poll(&failed, 1, 5000), 1);
  }
  mesh_backend_outcomes outcomes{};
  const std::uint32_t backend = tables_->backends_of(service).front();
  ASSERT_EQ(::bpf_map_lookup_elem(mesh_->maps().fd(datapath::Table::kBackendOutcomes), &backend, &outcomes), 0);
  EXPECT_EQ(outcomes.ended[MESH_RESET], 1U);
  EXPECT_EQ(outcomes.ended[MESH_CLOSED], 0U);
}

TEST_F(RefusalTest, a_program_that_the_mesh_needs_fails_the_start_and_says_why) {
  image_ = without_exit("mesh_connect4");
  datapath::DatapathOptions wanted = options();
  wanted.image = image_;
  const auto opened = datapath::Datapath::open(std::move(wanted));
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().to_string().find("last insn is not an exit"), std::string::npos)
      << opened.error().to_string();
}

}  // namespace
}  // namespace mesh::test
