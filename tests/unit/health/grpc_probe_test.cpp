// SPDX-License-Identifier: Apache-2.0
#include "health/grpc_probe.hpp"

#include <gtest/gtest.h>

namespace mesh::health {
namespace {

std::string framed(std::string_view message) {
  std::string out("\0\0\0\0", 4);
  out.push_back(static_cast<char>(message.size()));
  return out.append(message);
}

TEST(ServingStatus, reads_the_status_among_unknown_fields) {
  EXPECT_EQ(serving_status(framed("\x08\x01")), 1U);
  EXPECT_EQ(serving_status(framed("")), 0U) << "the default value is not sent";
  EXPECT_EQ(serving_status(framed("\x12\x02hi\x08\x02")), 2U);
  EXPECT_EQ(serving_status(framed("\x1d\x01\x02\x03\x04\x08\x01")), 1U);
}

TEST(ServingStatus, refuses_what_is_no_response) {
  EXPECT_FALSE(serving_status(""));
  EXPECT_FALSE(serving_status("\1\0\0\0\0"));
  EXPECT_FALSE(serving_status(framed("\x08")));
  EXPECT_FALSE(serving_status(framed("\x12\x7fhi")));
  EXPECT_FALSE(serving_status(framed("\x0b")));
  EXPECT_FALSE(serving_status(framed("\x08\x01") + "more"));
}

}  // namespace
}  // namespace mesh::health
